"""The pool of the frontier sampler: draws that may be trained next, and what is known of them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from micronet_search.build import TooLargeError
from micronet_search.config import distributions
from micronet_search.config.distributions import Choices, Distribution, OneOf, Pick, Range
from micronet_search.search.encoding import Parameters, decode, encode, pick_stored
from micronet_search.search.prospects import Prospect, Prospects

CHUNK = 16
"""So many random draws are new to the pool for each trial, and as many leave it."""

NEIGHBOURS = 32
"""So many draws are small changes of the best trials."""

CACHED = 8192
"""Of so many draws the prospects are kept."""

Fixed = frozenset[tuple[str, Any]]
"""Choices that are made already, by their paths."""


@dataclass(frozen=True, eq=False)
class Offer:
    """A draw that can be trained.

    Attributes:
        params: Its choices, as Optuna stores them.
        features: Its choices and what its predicted cost tells, as numbers; NaN for a choice that
            it does not have.
    """

    params: Parameters
    prospect: Prospect
    features: tuple[float, ...]


class Pool:
    """Makes offers: random draws of a space, and small changes of known ones.

    Which they are follows from a seed and the number of the trial that they are made for.
    """

    def __init__(
        self, space: Any, prospects: Prospects, at_most: float, seed: int, size: int
    ) -> None:
        """Takes `Sweep.space`, the ceiling of the score, and how many random draws are offered."""
        self._space, self._prospects, self._at_most = space, prospects, at_most
        self._seed, self._chunks = seed, math.ceil(size / CHUNK)
        self._leaves = {path: found for path, (found, _) in distributions.leaves(space).items()}
        self._find = lru_cache(CACHED)(self._look_up)
        self._chunk = lru_cache(2 * self._chunks)(self._draw_chunk)

    def find(self, params: Parameters) -> Offer | None:
        """Returns the offer of some choices; None for what is above the ceiling or impossible."""
        return self._find(tuple(params.items()))

    def random(self, number: int, fixed: Fixed) -> Parameters:
        """Returns one draw for a trial, which may be impossible."""
        return self._chunk(number, fixed)[0]

    def offers(self, number: int, fixed: Fixed, best: Sequence[Parameters] = ()) -> Iterator[Offer]:
        """Yields offers for a trial, those first that are made for it alone.

        Args:
            number: The trial's.
            fixed: What must be as it is.
            best: The choices of which some are changed.
        """
        rng = random.Random(f"{self._seed}/changed/{number}")
        changed = [
            self._draw(_changed(rng.choice(best), rng), fixed)
            for _ in range(NEIGHBOURS if best else 0)
        ]
        chunks = (self._chunk(number - back, fixed) for back in range(self._chunks))
        for drawn in (changed, *chunks) if best else chunks:
            yield from filter(None, map(self.find, drawn))

    def _draw_chunk(self, number: int, fixed: Fixed) -> list[Parameters]:
        pick = distributions.pick_random(random.Random(f"{self._seed}/{number}"))
        return [self._draw(pick, fixed) for _ in range(CHUNK)]

    def _draw(self, pick: Pick, fixed: Fixed) -> Parameters:
        given = {path: decode(self._leaves[path], value) for path, value in fixed}
        choices = distributions.draw(self._space, distributions.pick_from(given, pick)).choices
        return {path: encode(self._leaves[path], value) for path, value in choices.items()}

    def _look_up(self, params: tuple[tuple[str, Any], ...]) -> Offer | None:
        given = dict(params)
        try:
            prospect = self._prospects.of(distributions.draw(self._space, pick_stored(given)).tree)
        except (ValidationError, TooLargeError):
            return None
        if prospect.score > self._at_most:
            return None
        return Offer(given, prospect, (*self._numbers(given), *prospect.features))

    def _numbers(self, params: Parameters) -> Iterator[float]:
        """Yields the choices as numbers: a branch is a number for each of the branches."""
        for path, found in self._leaves.items():
            options = found.options()
            value = decode(found, params[path]) if path in params else None
            match found:
                case OneOf():
                    lacks = path not in params
                    yield from (math.nan if lacks else float(o == value) for o in options)
                case _ if value is None and path not in params:
                    yield math.nan
                case Choices():
                    yield float(found.index(value))
                case Range():
                    assert isinstance(value, int | float)
                    yield math.log(value) if found.log else float(value)


def _changed(params: Parameters, rng: random.Random) -> Pick:
    """Picks as some choices are, but for one or two of them."""
    others = set(rng.sample(sorted(params), min(len(params), rng.choice((1, 2)))))

    def pick(path: str, found: Distribution) -> Any:
        if path not in params:  # on a branch that was just taken
            return found.sample(rng)
        value = decode(found, params[path])
        return found.near(value, rng) if path in others else value

    return pick
