"""What brings a small network to a high accuracy: networks, schedules and recipes, with and without.

    python benchmarks/record.py FOLDER networks|schedules|recipes [--out record.csv]

FOLDER holds CIFAR-10 as parquet files. Every row is one trial of one thread, judged on 5,000 training
images that it does not see; rows that the CSV file holds already are left as they are, and the table
is printed at the end. Networks and schedules have 8 epochs of 20,000 images, recipes 30 epochs.
`score` is that of weights and inputs of 4 bits (8 in the first and the last layer) without pruning,
whether the row is quantized or not.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import techniques
import torch

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Dataset
from micronet_search.data import splits
from micronet_search.data.splits import Splits
from micronet_search.score.rules import imt

VALIDATION = 5000
