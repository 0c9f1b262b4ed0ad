"""One candidate through its stages. Knows neither Optuna nor MLflow."""
