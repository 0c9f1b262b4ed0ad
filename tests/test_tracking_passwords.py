import pytest

from micronet_search.tracking.client import masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://ann:secret@host/db", "postgresql://host/db"),
        ("postgresql+psycopg://ann:s/ecr@et@host:5/db", "postgresql+psycopg://host:5/db"),
        ("https://token@host/mlflow", "https://host/mlflow"),
        ("postgresql://host/db?password=s@cr/t", "postgresql://host/db?password=***"),
        (
            "postgresql://host/db?user=ann&sslpassword=secret&sslmode=require",
            "postgresql://host/db?user=ann&sslpassword=***&sslmode=require",
        ),
        ("mssql://?odbc_connect=PWD%3Dsecret", "mssql://?odbc_connect=***"),
        ("-  mlflow: 'http://host?token=secret'\n", "-  mlflow: 'http://host?token=***'\n"),
        (
            "+  optuna: mysql://ann:secret@host\n+  mlflow: null",
            "+  optuna: mysql://host\n+  mlflow: null",
        ),
        ("connection failed: PWD=secret", "connection failed: PWD=***"),
    ],
)
def test_passwords_are_taken_out(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////my runs/mlflow.db",
        "http://127.0.0.1:5000",
        "file:///home/ann@work/artifacts",
        "s3://bucket/ann@work",
        "learning_rate: 0.1\nlayers: [1, 1]\n",
        'FATAL: password authentication failed for user "ann"',
    ],
)
def test_what_is_no_password_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("s/ecr", "nonnumeric port: 's'"),
        ("s@ecr", "could not translate host name 'ecr@host'"),
        ("s:ecr@t", "invalid literal for int(): 'ecr@t@host'"),
    ],
)
def test_parts_of_a_password_that_an_error_names_are_taken_out(password: str, reason: str) -> None:
    found = masked(reason, f"postgresql://ann:{password}@host/db")
    assert not any(part in found for part in ("'s'", "ecr", "@t@"))
    assert masked(reason, "postgresql://ann@host/db") == reason
