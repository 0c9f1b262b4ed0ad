"""What most commands begin with, done once in the server that the tests fork them from.

The imports take ten times as long as a short command, and so do the first use of MLflow's store, of
matplotlib and of PyTorch's shapes, which fill caches. What is made on the way is an empty store of
MLflow's, at the path that `MICRONET_DATABASE` names.
"""

import importlib
import io
import os

import torch

from micronet_search import build
from micronet_search.config.files import read_candidate
from micronet_search.config.sweep import SHAPES, Objectives
from micronet_search.tracking.client import connect
from micronet_search.tracking.picture import Point, front_figure

MODULES = [
    "pytest",
    "micronet_search.cli",
    "micronet_search.study.opening",
    "micronet_search.report.check",
    "micronet_search.report.tables",
    "micronet_search.report.live",
    "micronet_search.export.ship",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracking",
    "sklearn.datasets",
    "pandas",
    "torch._dynamo",
]
CANDIDATE = {
    "network": {"family": "densenet", "stem": {"width": 4}, "growth_rate": 4, "layers": [1]},
    "training": {"epochs": 1, "learning_rate": 0.1},
    "pruning": {"sparsity": 0.5},
    "quantization": {"weight_bits": 8, "activation_bits": 8},
}
OBJECTIVES = {"accuracy": {"at_least": 0.5}, "score": {"at_most": 1.0}}


for name in MODULES:
    importlib.import_module(name)
connect(f"sqlite:///{os.environ['MICRONET_DATABASE']}")
points = [Point(0, 0.6, 0.5, True)]
front_figure("warm", points, {0}, Objectives.model_validate(OBJECTIVES)).savefig(io.BytesIO())
torch.set_num_threads(1)  # and no thread of PyTorch's before a fork
build.predict(read_candidate(CANDIDATE, SHAPES["digits"], 10))
