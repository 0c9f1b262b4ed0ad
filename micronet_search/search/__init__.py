"""From a sweep and Optuna to candidates: the space, samplers, screening, stopping, the front."""
