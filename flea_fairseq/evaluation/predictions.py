"""predictions.tsv: for every utterance its id, the truth, the prediction, and a probability a class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flea_fairseq.data.files import write_text
from flea_fairseq.data.manifest import read_lines, text_problem
from flea_fairseq.errors import FormatError

COLUMNS = ["id", "truth", "prediction"]


@dataclass(frozen=True)
class Predictions:
    """probabilities: (N, C), one row an utterance, one column a class."""

    ids: tuple[str, ...]
    truth: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: np.ndarray

    def __post_init__(self) -> None:
        expected = (len(self.ids), len(self.classes))
        if len(self.truth) != len(self.ids) or self.probabilities.shape != expected:
            raise ValueError(f"{len(self.truth)} labels, probabilities {self.probabilities.shape}: expected {expected}")

    @property
    def predicted(self) -> tuple[str, ...]:
        """The most probable class of each utterance; the first of equals."""
        return tuple(self.classes[i] for i in self.probabilities.argmax(1))


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Write predictions.tsv; probabilities with 6 decimals, of which the written prediction is the largest.

    Raises FormatError for what could not be read back.
    """
    for names in (predictions.ids, predictions.classes):
        if problem := _names_problem(names):
            raise FormatError(f"{path}: {problem}")
    if not set(predictions.truth) <= set(predictions.classes):
        raise FormatError(f"{path}: the truth has other classes than {', '.join(predictions.classes)}")
    if not ((predictions.probabilities >= 0) & (predictions.probabilities <= 1)).all():
        raise FormatError(f"{path}: probabilities that are not from 0 to 1")
    columns = [[f"{p:.6f}" for p in row] for row in predictions.probabilities]
    rounded = np.array(columns, dtype=np.float64).reshape(predictions.probabilities.shape)
    predicted = replace(predictions, probabilities=rounded).predicted
    rows = [
        [utterance, truth, prediction, *probabilities]
        for utterance, truth, prediction, probabilities in zip(predictions.ids, predictions.truth, predicted, columns)
    ]
    write_text(path, "".join("\t".join(row) + "\n" for row in [[*COLUMNS, *predictions.classes], *rows]))


def read_predictions(path: str | Path) -> Predictions:
    """Read predictions.tsv. Raises FormatError for a line that does not fit, or an id that is there twice."""
    lines = read_lines(path)
    header = lines[0].split("\t")
    classes = tuple(header[len(COLUMNS) :])
    if header[: len(COLUMNS)] != COLUMNS or not classes or _names_problem(classes):
        raise FormatError(
            f"{path}:1: header {' '.join(header)!r}, expected {' '.join(COLUMNS)} and a column a class; "
            "run flea evaluate again"
        )
    rows = [_read_row(f"{path}:{number}", line, classes) for number, line in enumerate(lines[1:], start=2)]
    ids = tuple(row[0] for row in rows)
    seen: set[str] = set()
    for number, utterance in enumerate(ids, start=2):
        if utterance in seen:
            raise FormatError(f"{path}:{number}: utterance {utterance!r} is there twice; run flea evaluate again")
        seen.add(utterance)
    probabilities = np.array([row[2] for row in rows], dtype=np.float64).reshape(len(rows), len(classes))
    return Predictions(ids, tuple(row[1] for row in rows), classes, probabilities)


def _names_problem(names: Sequence[str]) -> str | None:
    """What keeps ids or classes from being read back, or None."""
    if len(set(names)) < len(names):
        return "a name is there twice, expected once"
    return next((f"{name!r} {problem}" for name in names if (problem := text_problem(name))), None)


def _read_row(where: str, line: str, classes: tuple[str, ...]) -> tuple[str, str, list[float]]:
    fields, width = line.split("\t"), len(COLUMNS) + len(classes)
    if len(fields) != width:
        raise FormatError(f"{where}: {len(fields)} columns, expected {width} as in the header; run flea evaluate again")
    utterance, truth, prediction, *numbers = fields
    if problem := text_problem(utterance):
        raise FormatError(f"{where}: utterance {utterance!r} {problem}; run flea evaluate again")
    if truth not in classes:
        raise FormatError(f"{where}: truth {truth!r}, expected one of the header's {', '.join(classes)}")
    try:
        probabilities = [float(number) for number in numbers]
    except ValueError as error:
        raise FormatError(f"{where}: {error}, expected a probability a class") from None
    if not all(0 <= p <= 1 for p in probabilities):
        raise FormatError(f"{where}: probabilities {' '.join(numbers)}, expected numbers from 0 to 1")
    if prediction != classes[int(np.argmax(probabilities))]:
        raise FormatError(f"{where}: prediction {prediction!r} is not the most probable class; the file was changed")
    return utterance, truth, probabilities
