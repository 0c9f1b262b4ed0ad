"""The predicted cost against that of networks that are built, compressed and run."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from candidates import SMALL, random_candidate
from counting import real
from hypothesis import given, settings
from hypothesis import strategies as st
from test_build import giant
from test_compression_structured_pruning import networks

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.network import Input

WIDE = Input(channels=1, height=13, width=10)


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    """Of all families and with each technique or not, at times with many groups."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    parts: dict[str, Any] = {"network": draw(networks())} if draw(st.booleans()) else {}
    return random_candidate(rng, draw(st.sampled_from([SMALL, WIDE])), **parts)


@settings(max_examples=100)
@given(candidates())
def test_the_described_cost_is_that_of_the_network_that_is_built(candidate: Candidate) -> None:
    plan, cost = real(candidate)
    assert build.planned(candidate) == (plan, cost)


def test_a_network_that_is_too_large_to_thin_is_refused_at_once() -> None:
    candidate = giant(stem={"width": 4096}, growth_rate=1024)
    begun = time.process_time()
    for _ in range(10):
        with pytest.raises(build.TooLargeError, match="the network to thin has"):
            build.predict(candidate)
    assert time.process_time() - begun < 1.0
