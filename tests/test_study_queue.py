"""Where trials are: room, fullness, and what a slot that becomes free leaves to do."""

from typing import Any, cast

import pytest

from micronet_search.config.candidate import Candidate
from micronet_search.study.queue import Planned, Queue, Tries


def planned(number: int) -> Planned:
    return Planned(number, cast(Candidate, None), 0)


def queue(total: int = 4, ended: int = 0) -> Queue[Planned]:
    return Queue(total, cast(Any, dict.fromkeys(range(ended))))


def test_trials_that_hold_a_slot_take_room() -> None:
    found = queue()
    assert not found.has_room(0)
    assert found.has_room(1)
    found.running[0] = planned(0)
    assert not found.has_room(1)
    assert found.has_room(2)


def test_a_slot_is_kept_for_each_student_of_a_teacher_that_is_trained() -> None:
    found = queue()
    found.running[-1] = None
    found.wait_for(-1, planned(0))
    assert not found.has_room(1)
    assert found.has_room(2)
    found.wait_for(-1, planned(1))
    assert not found.has_room(2)
    assert found.begun == 2


@pytest.mark.parametrize(("ended", "expected"), [(1, False), (2, True)])
def test_what_has_begun_counts_towards_the_total(ended: int, expected: bool) -> None:
    found = queue(total=4, ended=ended)
    found.running = {3: planned(3), -1: None}
    found.wait_for(-1, planned(2))
    assert found.is_full is expected


def test_a_slot_that_becomes_free_names_the_trials_that_need_its_job() -> None:
    found = queue()
    first, second, third = map(planned, range(3))
    found.running = {0: first, -1: None, -2: None}
    found.wait_for(-1, second)
    found.wait_for(-1, third)
    assert found.release(0) == [first]
    assert found.release(-1) == [second, third]
    assert found.release(-2) == []
    assert found.running == found.waiting == {}


def test_what_was_begun_comes_before_what_is_left_of_an_earlier_start() -> None:
    found = queue()
    found.ready = [planned(5)]
    found.make_ready([planned(1), planned(2)])
    assert [one.number for one in found.ready] == [1, 2, 5]


def test_only_a_further_checkpoint_begins_the_count_of_tries_anew() -> None:
    tries = Tries(retries=1)
    assert tries.count_crash(7)
    assert not tries.count_crash(7)
    tries.reach(7, epoch=3)
    assert tries.count_crash(7)
    tries.reach(7, epoch=2)
    tries.reach(7, epoch=3)
    assert not tries.count_crash(7)
    assert tries.count_crash(8)
    assert not Tries(retries=0).count_crash(0)
