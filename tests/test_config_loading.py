import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from micronet_search.config.files import dump_yaml
from micronet_search.config.loading import ConfigError, Problem, describe, dotted, read_yaml


def read(folder: Path, text: str | bytes) -> Any:
    path = folder / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as error:
        read(folder, text)
    return str(error.value).replace(str(folder / "a.yaml"), "a.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("5E+2", 500.0),
        ("-.5", -0.5),
        ("3.", 3.0),
        ("12", 12),
        ("010", 10),
        ("+7", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("0b1", "0b1"),
        ("2001-01-01", "2001-01-01"),
        ("'1'", "1"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
    ],
)
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: Any) -> None:
    found = read(tmp_path, f"a: {text}").tree["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    ["off", "yes", "1e-3", "0o17", "1_000", "12:30", "010", "~", "", "null", "=", "2001-01-01"],
)
def test_dumped_text_is_text_to_every_reader(text: str) -> None:
    dumped = dump_yaml({"a": text})
    assert yaml.safe_load(dumped) == {"a": text}


@pytest.mark.parametrize(
    "value",
    [1e-5, 1e16, 1e300, 0.1, 0.0, 7, -3, True, None, [1, 2], [[1], [2]], {"b": {}}, [], "é\n"],
)
def test_a_dumped_value_is_read_again(tmp_path: Path, value: Any) -> None:
    found = read(tmp_path, dump_yaml({"a": value})).tree["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.yaml: found an empty file, expected a mapping"),
        ("# nothing\n", "a.yaml: found an empty file, expected a mapping"),
        ("5", "a.yaml:1:1: found 5, expected a mapping"),
        ("- a", 'a.yaml:1:1: found ["a"], expected a mapping'),
        ("---\n", "a.yaml:1:1: found null, expected a mapping"),
        ("a: b: c", "a.yaml:1:5: not readable as YAML: mapping values are not allowed here"),
        (
            "a: 1\n\tb: 2",
            "a.yaml:2:1: not readable as YAML: while scanning for the next token, "
            "found character '\\t' that cannot start any token",
        ),
        (
            "a: 1\n---\nb: 2",
            "a.yaml:2:1: not readable as YAML: expected a single document in the stream, "
            "but found another document",
        ),
        ("a: *b", "a.yaml:1:4: not readable as YAML: found undefined alias 'b'"),
        ("a: 1\nb: \0", "a.yaml:2:4: not readable as YAML: found the character '\\x00'"),
        (b"a: 1\nb: \xff", "a.yaml:2:4: not readable as YAML: the byte 0xff is not UTF-8"),
        (
            r'a: "\uD800"',
            "a.yaml:1:4: not readable as YAML: half of a surrogate pair is no character",
        ),
        (r'a: "\UFFFFFFFF"', "a.yaml: not readable as YAML: an escape that is no character"),
        (
            "a: 9223372036854775808",
            "a.yaml:1:4: not readable as YAML: '9223372036854775808' is beyond 64 bits",
        ),
        ("a: !!int x", "a.yaml:1:4: not readable as YAML: the tag !!int does not fit 'x'"),
        ("a: !foo x", "a.yaml:1:4: not readable as YAML: the tag !foo is not allowed"),
        (
            "a: !!set {b, c}",
            "a.yaml:1:4: not readable as YAML: the tag tag:yaml.org,2002:set is not allowed",
        ),
        ("[" * 5000, "a.yaml: nested too deeply"),
        (
            "a: " + "[" * 50 + "]" * 50,
            "a.yaml:1:44: not readable as YAML: more than 40 levels or 2000 values",
        ),
        ("a" * 70_000, "a.yaml: larger than 64 KiB, expected a YAML file"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert refusal(tmp_path, text) == message


@pytest.mark.parametrize("tag", ["python/object:os.system", "binary", "omap", "python/name:os"])
def test_no_tag_makes_an_object(tmp_path: Path, tag: str) -> None:
    assert f"the tag tag:yaml.org,2002:{tag} is not allowed" in refusal(tmp_path, f"a: !!{tag} x")


def test_aliases_cannot_multiply_without_end(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi")]
    assert "more than 40 levels or 2000 values" in refusal(tmp_path, "\n".join(lines))
    assert "more than 40 levels or 2000 values" in refusal(tmp_path, "a: &a [*a]")


def test_an_alias_repeats_a_value(tmp_path: Path) -> None:
    document = read(tmp_path, "a: &x {b: 1}\nc: *x")
    assert document.tree == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize("text", ["\ufeffa:\n  b: 1\n", "a:\r\n  b: 1\r\n", "a:\r  b: 1"])
def test_byte_order_marks_and_line_ends_are_no_matter(tmp_path: Path, text: str) -> None:
    document = read(tmp_path, text)
    assert document.tree == {"a": {"b": 1}}
    assert document.problem(("a", "b"), "x") == Problem(2, 3, "a.b", "x")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", "is a directory, expected a YAML file"),
        ("missing.yaml", "no such file or directory, expected a YAML file"),
        ("a\0b", "embedded null byte, expected a YAML file"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_yaml(f"{tmp_path}/{path}")
    assert str(error.value) == f"{tmp_path}/{path}: {message}"


def test_keys_that_are_duplicates_or_no_words_are_kept_as_problems(tmp_path: Path) -> None:
    document = read(tmp_path, 'a:\n  b: 1\n  b: 2\n? [c]\n: 3\n"d\\n": 4\n"": 5\n')
    assert document.tree == {"a": {"b": 1}}
    assert document.problems == [
        Problem(3, 3, "a.b", "duplicate key, first given on line 2"),
        Problem(4, 3, "", "found a list or a mapping as a key, expected a word"),
        Problem(6, 1, "", "found 'd\\n' as a key, expected a word"),
        Problem(7, 1, "", "found '' as a key, expected a word"),
    ]


def test_problems_stand_at_the_nearest_key_of_the_file(tmp_path: Path) -> None:
    document = read(tmp_path, "a:\n  b: [1, 2]\n  c: 3\n")
    assert document.problem(("a", "b", 1), "x") == Problem(2, 10, "a.b[1]", "x")
    assert document.problem(("a", "d"), "x") == Problem(1, 1, "a.d", "x")
    assert document.problem(("a", "c", 0), "x") == Problem(3, 3, "a.c", "x")


def test_errors_are_in_the_order_of_the_file_and_each_once() -> None:
    problems = [Problem(2, 1, "b", "y"), Problem(1, 5, "a", "x"), Problem(2, 1, "b", "y")]
    assert str(ConfigError("f.yaml", problems)) == "f.yaml:1:5: a: x\nf.yaml:2:1: b: y"


def test_dotted() -> None:
    assert dotted(("network", "layers", 1)) == "network.layers[1]"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("x", "'x'"),
        ({"low": 1, "high": [2]}, "{low: 1, high: [2]}"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16..."),
    ],
)
def test_describe(value: Any, text: str) -> None:
    assert describe(value) == text


def test_an_error_shows_no_more_problems_than_anyone_reads() -> None:
    problems = [Problem(line, 1, "a", "x") for line in range(1, 151)]
    lines = str(ConfigError("f.yaml", problems)).splitlines()
    assert lines[99:] == ["f.yaml:100:1: a: x", "f.yaml: and 50 more problems"]
