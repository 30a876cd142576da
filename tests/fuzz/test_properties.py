"""Whatever stands in a file from others, its reader gives a value or a FleaError that can be shown as it is."""

import os

import pytest
from guard import guarded
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inputs import HOSTILE, broken
from parsers import judge, parsers, placed
from regressions import REGRESSIONS

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 60))  # by hand, thousands
NAMES = tuple(parsers())


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_read(name):
    """A seed that is refused would leave the rest of its reader untouched."""
    parser = parsers()[name]
    with placed(parser) as path:
        assert [judge(parser, path, content) for content in parser.seeds()] == [None] * len(parser.seeds())


@pytest.mark.parametrize("name", NAMES)
def test_broken_files_give_a_value_or_an_error_that_names_them(name):
    parser = parsers()[name]
    with placed(parser) as path:

        @settings(
            max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(st.one_of(st.sampled_from(HOSTILE), broken(parser.seeds())))
        def reads(content: bytes) -> None:
            with guarded():
                judge(parser, path, content)

        for content in REGRESSIONS.get(name, []):
            reads = example(content)(reads)
        reads()
