"""YAML from others: the values of PyYAML's own safe loader, or one line of error."""

import pytest
import yaml

from flea_fairseq.data import plain_yaml
from flea_fairseq.data.plain_yaml import DEEPEST, parse_yaml

PLAIN = "a: 1\nb: [1.5, yes, null, 2026-11-01, text]\nc: {d: &x [1, 2], e: *x}\n"


@pytest.mark.parametrize("text", [PLAIN, "", "7", "- a\n- - b"])
def test_values_are_those_of_the_safe_loader(text):
    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    "text", ["a: [", "a: b: c", "!!python/object:os.system x", "a: *b", "2026-99-99", "--- 1\n--- 2"]
)
def test_what_is_no_plain_yaml_is_one_line(text):
    with pytest.raises(ValueError) as error:
        parse_yaml(text)
    assert "\n" not in str(error.value) and len(str(error.value)) > 10


def test_the_deepest_nesting_that_is_read():
    below = DEEPEST - 1  # the value in the middle is a level, too
    assert parse_yaml("[" * below + "1" + "]" * below) == yaml.safe_load("[" * below + "1" + "]" * below)
    for deep in (DEEPEST, 3_000):  # the second ends PyYAML's own recursion
        with pytest.raises(ValueError) as error:
            parse_yaml("[" * deep + "1" + "]" * deep)
        assert str(error.value) == f"nested deeper than {DEEPEST}"


@pytest.fixture
def largest(monkeypatch) -> int:
    monkeypatch.setattr(plain_yaml, "LARGEST", 60)
    return 60


def test_as_many_values_as_are_read(largest):
    assert len(parse_yaml(f"[{'1,' * (largest - 1)}]")) == largest - 1  # the list is a value, too
    with pytest.raises(ValueError) as error:
        parse_yaml(f"[{'1,' * largest}]")
    assert str(error.value) == f"its aliases stand for more than {largest} values"


def test_every_use_of_an_alias_counts_and_keys_do(largest):
    half = largest // 2
    few = f"a: &x [{'1,' * (half - 10)}]\nb: *x\n"
    assert len(parse_yaml(few)["b"]) == half - 10
    keys = f"{{{','.join(f'k{i}: 1' for i in range(half))}}}"
    for more in (f"a: &x [{'1,' * (half + 1)}]\nb: *x\n", "a: &x\n  b: *x\n", keys):
        with pytest.raises(ValueError, match="its aliases stand for more than"):
            parse_yaml(more)
