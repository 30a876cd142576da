"""fairseq's JSON log lines -> the learning curves of one training."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEST = re.compile(r"Saved checkpoint .*checkpoint_best\.pt \(epoch (\d+) ")
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Curves:
    """loss: training loss in bits by update; ua: validation UA in 0..1 by epoch, empty where nothing was validated;
    selected: the epoch of `ua` whose model was kept, None without any."""

    loss: Curve
    ua: Curve
    selected: int | None

    @property
    def kept(self) -> tuple[int, float] | None:
        """The selected epoch and its UA, if it is in the log."""
        return next((point for point in self.ua if point[0] == self.selected), None)


def read_curves(log: Path) -> Curves:
    """Read a train.log. Of a training that was killed and resumed, what it did a second time counts.

    The loss is the mean over an epoch, or over a log interval where these are more.
    """
    inner: Curve = []
    epochs: Curve = []
    ua: Curve = []
    selected = None
    kinds = ((inner, "num_updates", "loss"), (epochs, "train_num_updates", "train_loss"), (ua, "epoch", "valid_ua"))
    with open(log, encoding="utf-8", errors="replace") as file:
        for line in file:
            if best := BEST.search(line):
                selected = int(best[1])
            values = json_part(line)
            for curve, at, value in kinds:
                if at in values and value in values:
                    _add(curve, values[at], values[value])
    if selected is None and ua:
        selected = ua[-1][0]  # nothing selects: the last model is kept
    return Curves(max(epochs, inner, key=len), ua, selected)


def json_part(line: str) -> dict[str, Any]:
    """The JSON object at the end of a log line; empty if there is none."""
    start = line.find("{")
    try:
        values = json.loads(line[start:]) if start >= 0 else {}
    except json.JSONDecodeError:
        return {}
    return values if isinstance(values, dict) else {}


def _add(curve: Curve, at: str | int, value: str) -> None:
    """Add a point; what lay there or later was of a run that did not get to save it."""
    try:
        point = int(at), float(value)
    except (TypeError, ValueError):  # not a line of fairseq's
        return
    while curve and curve[-1][0] >= point[0]:
        curve.pop()
    curve.append(point)
