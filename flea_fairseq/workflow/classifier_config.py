"""What a classifier's training would refuse once it has started: refused before, in its whole config."""

from collections.abc import Mapping
from typing import Any

from flea_fairseq.errors import ExperimentError
from flea_fairseq.ranges import CONSISTENCY, RANGES, check_range
from flea_fairseq.workflow.training_config import resolved


def check_classifier(name: str, values: Mapping[str, Any], clusters: bool) -> None:
    """Raise ExperimentError for a number out of its range, and for consistency that frames cannot have.

    name: of the training; values: of its config, under dotted keys; clusters: whether it is given those of frames. A
    config without such keys is no classifier's.
    """
    for key in RANGES:
        if key in values:
            check_range(key, resolved(key, values), f"{name}: {key}")
    if CONSISTENCY not in values or not resolved(CONSISTENCY, values):
        return
    if not clusters:
        raise ExperimentError(
            f"{name}: {CONSISTENCY} is {values[CONSISTENCY]}, but there are no clusters of frames: give flea train "
            "--labels FOLDER --label-set km50; an experiment sets it in settings.flea or settings.flea_<pooling>"
        )
    if "model.pooling" in values:
        from flea_fairseq.models.pooling import check_frame_logits  # torch: seconds

        check_frame_logits(resolved("model.pooling", values), f"{name}: {CONSISTENCY}")
