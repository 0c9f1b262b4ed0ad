import random
from typing import Any

import pytest

from micronet_search.config import distributions, grammar
from micronet_search.config.distributions import Choices, OneOf, Range
from micronet_search.config.grammar import DistributionError

TREE: dict[str, Any] = {
    "a": {"low": 1, "high": 9, "step": 4},
    "b": {"choices": [[1, 2], None]},
    "c": {"one_of": {"x": None, "y": {"d": {"low": 0.0, "high": 1.0}, "e": 5}}},
}


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"low": 8, "high": 32}, Range(8, 32)),
        ({"low": 8, "high": 31, "step": 4}, Range(8, 28, 4)),
        ({"low": 0, "high": 1.0}, Range(0.0, 1.0, whole=False)),
        ({"low": 0, "high": 1, "step": 0.25}, Range(0.0, 1.0, 0.25, whole=False)),
        ({"low": 1e-3, "high": 1e-2, "log": True}, Range(1e-3, 1e-2, log=True, whole=False)),
        ({"choices": [1, 1.0, True, "1", [1]]}, Choices((1, 1.0, True, "1", [1]))),
        ({"one_of": {"x": 1, "y": None}}, OneOf({"x": 1, "y": None})),
        ({"step": 1}, {"step": 1}),
        ([1, [2]], [1, [2]]),
    ],
)
def test_parse(tree: Any, expected: Any) -> None:
    assert grammar.parse(tree) == expected


@pytest.mark.parametrize(
    ("tree", "key", "message"),
    [
        ({"low": 5, "high": 2}, (), "found low 5 above high 2, expected low <= high"),
        ({"low": 5}, (), "high is missing, expected a range with low and high"),
        ({"low": 1, "hihg": 5}, ("hihg",), "unknown key, did you mean 'high'?"),
        ({"low": 1, "high": "x"}, ("high",), "found 'x', expected a number below 1e15"),
        ({"low": True, "high": 2}, ("low",), "found true, expected a number below 1e15"),
        (
            {"low": 0, "high": 10**18},
            ("high",),
            "found 1000000000000000000, expected a number below 1e15",
        ),
        (
            {"low": 0, "high": float("nan")},
            ("high",),
            "found NaN, expected a number below 1e15",
        ),
        ({"low": 0, "high": 1, "step": 0}, ("step",), "found 0, expected a step above 0"),
        (
            {"low": 0, "high": 1, "step": 1e-300},
            ("step",),
            "found 1e-300, expected at most 1000000 steps from low to high",
        ),
        ({"low": 0, "high": 1, "log": "yes"}, ("log",), "found 'yes', expected true or false"),
        (
            {"low": 0, "high": 1, "log": True},
            ("log",),
            "found log: true and low 0, expected low above 0",
        ),
        (
            {"low": 1, "high": 4, "step": 1, "log": True},
            (),
            "found log: true and a step, expected one of the two",
        ),
        ({"choices": []}, ("choices",), "found [], expected a list with at least one value"),
        ({"choices": [1, 2, 1]}, ("choices", 2), "found 1 a second time, expected each value once"),
        ({"choices": [1], "low": 2}, ("low",), "unknown key, expected choices"),
        (
            {"choices": [{"one_of": {"a": 1}}]},
            ("choices", 0),
            "found {one_of: {a: 1}}, expected a plain value within choices; "
            "one_of has subtrees to search",
        ),
        (
            [1, {"low": 1, "high": 3}],
            (1,),
            "found {low: 1, high: 3}, expected a plain value within a list, "
            "which is searched whole, with choices",
        ),
        ({"one_of": {}}, ("one_of",), "found {}, expected a mapping from names to subtrees"),
        (
            {"one_of": {"a.b": 1}},
            ("one_of", "a.b"),
            "found a branch named 'a.b', expected a name without dots",
        ),
        (
            {"one_of": {"one_of": 1}},
            ("one_of", "one_of"),
            "found a branch named 'one_of', expected a name without dots",
        ),
        *(
            (
                {"one_of": {"x": 1, name: {"choices": [1]}}},
                ("one_of", name),
                f"found a branch named {name!r}, expected letters, digits, spaces, - and _, "
                "and : or / between them",
            )
            for name in ("res+se", "a,b", "a//b", "a;b", "(x)")
        ),
    ],
    ids=lambda found: str(found)[:40],
)
def test_a_distribution_that_cannot_be_is_refused(tree: Any, key: Any, message: str) -> None:
    with pytest.raises(DistributionError) as error:
        grammar.parse({"a": tree})
    assert (error.value.key, error.value.message) == (("a", *key), message)


def test_all_that_is_wrong_is_collected() -> None:
    tree = {"a": {"low": 2, "high": 1}, "b": {"one_of": {"x": {"choices": 3}, "y": {"high": 1}}}}
    _, wrong = grammar.parse_all(tree)
    assert list(wrong) == [("a",), ("b", "one_of", "x"), ("b", "one_of", "y")]


def test_the_path_of_a_choice_is_as_long_as_mlflow_takes_it() -> None:
    def tree(name: str) -> dict[str, Any]:
        choice = {
            "one_of": {name: {"b": {"low": 1, "high": 2}}, "größer: als/1_a-b": {"choices": [1]}}
        }
        return {"a": {"one_of": {"x": 1, "y": choice}}}

    space = grammar.parse(tree("n" * 244))
    assert max(map(len, distributions.leaves(space))) == 250
    key = ("a", "one_of", "y", "one_of", "n" * 245, "b")
    with pytest.raises(DistributionError) as error:
        grammar.parse(tree("n" * 245))
    assert error.value.key == key
    assert error.value.message == (
        "found a path of 251 characters, expected at most 250; names of branches are in it"
    )
    _, wrong = grammar.parse_all(tree("n" * 245), ("candidate",))
    assert list(wrong) == [("candidate", *key)]
    assert not grammar.parse_all(tree("n" * 244), ("candidate",))[1]
    whole = {"a": {"one_of": {"n" * 241: {"one_of": {"x": 1}}}}}  # its path ends with one_of
    assert len(list(distributions.leaves(grammar.parse(whole)))[1]) == 250
    assert list(grammar.parse_all({"ab": whole["a"]})[1]) == [("ab", "one_of", "n" * 241)]


def test_a_branch_without_choices_is_in_no_path() -> None:
    assert not grammar.parse_all({"one_of": {"a,b": None, "x" * 300: {"c": 1}}})[1]


def test_unparse_is_the_reverse_of_parse() -> None:
    assert grammar.unparse(grammar.parse(TREE)) == TREE


def test_leaves_are_dotted_paths_with_the_branches_that_lead_there() -> None:
    space = grammar.parse(TREE)
    assert {path: branches for path, (_, branches) in distributions.leaves(space).items()} == {
        "a": {},
        "b": {},
        "c.one_of": {},
        "c.y.d": {"c.one_of": "y"},
    }


def test_draw_tells_where_each_value_comes_from() -> None:
    pick = distributions.pick_from({"c.one_of": "y", "b": None})
    drawn = distributions.draw(grammar.parse(TREE), pick)
    assert drawn.tree == {"a": 1, "b": None, "c": {"d": 0.0, "e": 5}}
    assert drawn.source(("b",)) == ("b", "choices", 1)
    assert drawn.source(("c", "e")) == ("c", "one_of", "y", "e")
    assert drawn.picks == {"a": ("a",), "b": ("b",), "c.one_of": ("c",), "c.y.d": ("c", "d")}


@pytest.mark.parametrize(("value", "index"), [(1, 0), (True, 1), (1.0, 2), ({"b": 1, "a": 2}, 3)])
def test_the_index_of_a_choice_goes_by_type(value: Any, index: int) -> None:
    assert Choices((1, True, 1.0, {"a": 2, "b": 1})).index(value) == index


def test_random_draws_stay_inside() -> None:
    rng = random.Random(0)
    space = grammar.parse(TREE)
    trees = [distributions.draw(space, distributions.pick_random(rng)).tree for _ in range(100)]
    assert {tree["a"] for tree in trees} == {1, 5, 9}
    assert {tree["c"] is None for tree in trees} == {True, False}
    assert all(0 <= tree["c"]["d"] <= 1 for tree in trees if tree["c"])


@pytest.mark.parametrize(
    ("range_", "count", "options"),
    [
        (Range(2, 5), 4, [2, 5, 3, 4]),
        (Range(2, 2), 1, [2]),
        (Range(0.0, 1.0, 0.5, whole=False), 3, [0.0, 1.0, 0.5]),
        (Range(1, 10**12), 10**12, [1, 10**12]),
        (Range(1.0, 2.0, whole=False), None, [1.0, 2.0]),
    ],
)
def test_counts_of_ranges(range_: Range, count: int | None, options: list[float]) -> None:
    assert range_.count() == count
    assert range_.options() == pytest.approx(options)


@pytest.mark.parametrize(
    ("range_", "value", "nearest"),
    [
        (Range(8, 32, 4), 15, 12),
        (Range(8, 32, 4), 100, 32),
        (Range(8, 32), 0, 8),
        (Range(8, 32), "x", 8),
        (Range(8, 32), True, 8),
        (Range(0.0, 0.9, 0.3, whole=False), 0.6, 0.6),
        (Range(0.0, 1.0, whole=False), 0.37, 0.37),
    ],
)
def test_nearest(range_: Range, value: Any, nearest: float) -> None:
    assert range_.nearest(value) == nearest


def test_singles_take_every_option_once() -> None:
    space = grammar.parse(
        {
            "a": {"low": 1, "high": 3},
            "b": {"one_of": {"x": {"choices": [5, 6]}, "y": {"choices": [7, 8]}}},
        }
    )
    assert list(distributions.singles(space)) == [
        {},
        {"a": 1},
        {"a": 3},
        {"a": 2},
        {"b.one_of": "x"},
        {"b.one_of": "y"},
        {"b.one_of": "x", "b.x": 5},
        {"b.one_of": "x", "b.x": 6},
        {"b.one_of": "y", "b.y": 7},
        {"b.one_of": "y", "b.y": 8},
    ]


def test_draws_of_a_logarithmic_range_are_even_in_the_logarithm() -> None:
    rng = random.Random(0)
    fractions, whole = Range(0.01, 1.0, log=True, whole=False), Range(1, 63, log=True)
    for drawn_from, middle in ((fractions, 0.1), (whole, 8)):
        drawn = [drawn_from.sample(rng) for _ in range(2000)]
        assert drawn_from.low <= min(drawn)
        assert max(drawn) <= drawn_from.high
        assert sum(value < middle for value in drawn) / 2000 == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (Range(1, 9), 4, {3, 5}),
        (Range(1, 9), 9, {8}),
        (Range(0, 100, 2), 50, {40, 42, 44, 46, 48, 52, 54, 56, 58, 60}),
        (Range(3, 3), 3, {3}),
        (Choices(("a", [1], True)), True, {"a", "[1]"}),
        (Choices(("a",)), "a", {"a"}),
        (OneOf({"some": {}, "other": {}}), "some", {"other"}),
    ],
)
def test_a_small_change_of_a_value(distribution: Any, value: Any, expected: set[Any]) -> None:
    rng = random.Random(0)
    found = [distribution.near(value, rng) for _ in range(300)]
    assert {str(v) if isinstance(v, list) else v for v in found} == expected


def test_a_small_change_of_a_continuum_is_within_a_tenth_of_it() -> None:
    rng = random.Random(0)
    found = [Range(1e-4, 1.0, log=True, whole=False).near(1e-2, rng) for _ in range(300)]
    assert 1e-2 * 10**-0.4 <= min(found) < 0.005 < 0.02 < max(found) <= 1e-2 * 10**0.4
    assert max(Range(0.0, 1.0, whole=False).near(1.0, rng) for _ in range(99)) == 1.0
