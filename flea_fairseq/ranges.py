"""Settings whose range is checked when an experiment is read, and again where they are used; imports no torch."""

import sys
from collections.abc import Callable
from typing import Any

from flea_fairseq.errors import ExperimentError

CONTEXT, CONSISTENCY = "model.context", "criterion.consistency"
SHORTEST, LONGEST = 0.08, 3600  # seconds: windows of four frames, which have a middle half, to an hour
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    CONTEXT: (lambda value: value == 0 or SHORTEST <= value <= LONGEST, f"0 (all) or {SHORTEST} to {LONGEST} seconds"),
    CONSISTENCY: (lambda value: 0 <= value <= sys.float_info.max, "a number of 0 or more"),
}


def check_range(key: str, value: Any, where: str = "") -> None:
    """Raise ExperimentError for a value outside the range of a key of RANGES; where: what the message calls the key."""
    is_right, expected = RANGES[key]
    if type(value) not in (int, float) or not is_right(value):
        raise ExperimentError(f"{where or key} is {value!r}, expected {expected}")
