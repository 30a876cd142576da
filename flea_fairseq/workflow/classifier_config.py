"""What a classifier's training would refuse once it has started: refused before, in its whole config."""

from collections.abc import Mapping
from typing import Any

from flea_fairseq.ranges import RANGES, check_range
from flea_fairseq.workflow.training_config import resolved


def check_classifier(name: str, values: Mapping[str, Any]) -> None:
    """Raise ExperimentError for a number out of its range.

    name: of the training; values: of its config, under dotted keys. One without such keys is no classifier's.
    """
    for key in RANGES:
        if key in values:
            check_range(key, resolved(key, values), f"{name}: {key}")
