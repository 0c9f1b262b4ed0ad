"""Predictions and accuracy by hand."""

from __future__ import annotations

import torch
from torch import nn

from micronet_search.training.fit import accuracy, predictions

LOGITS = torch.tensor([[0.1, 0.9, 0.0], [3.0, 2.0, 1.0], [-3.0, -2.0, -1.0], [0.0, 0.5, 0.4]])


def test_predictions_are_the_largest_logits() -> None:
    assert predictions(nn.Identity(), LOGITS.split(3)).tolist() == [1, 0, 2, 1]


def test_accuracy_is_the_share_that_is_right() -> None:
    labels = torch.tensor([1, 0, 0, 1])
    pairs = [(LOGITS[:3], labels[:3]), (LOGITS[3:], labels[3:])]
    assert accuracy(nn.Identity(), iter(pairs)) == 0.75


def test_a_network_is_evaluated_as_such_and_put_back() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.9))
    assert predictions(network, [LOGITS]).tolist() == [1, 0, 2, 1]
    assert network.training
    assert all(module.training for module in network)
    assert network[0].num_batches_tracked == 0
