"""`flea compare`: do two systems differ by more than noise, on the same utterances?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flea_fairseq.errors import CorpusError
from flea_fairseq.evaluation.estimates import estimates
from flea_fairseq.evaluation.predictions import read_predictions
from flea_fairseq.evaluation.results import UNSEEDED, Fold, System, describe_difference, places, read_run, read_system
from flea_fairseq.evaluation.statistics import ALPHA, MEASURES
from flea_fairseq.evaluation.tables import aligned, p_value, percent

FILE = "file"  # the seed, fold and protocol of a predictions.tsv that stands alone


@dataclass(frozen=True)
class Side:
    """One of the two: its results, and where they came from."""

    source: str
    classes: tuple[str, ...]
    folds: tuple[Fold, ...]
    system: System

    @property
    def is_file(self) -> bool:
        """Whether it is a predictions.tsv, of which neither protocol nor split is known."""
        return self.folds[0].name == FILE


def compare(a: str | Path, b: str | Path) -> dict[str, Any]:
    """Compare two results: each a predictions.tsv, or a run's folder and a system of it, such as `work/emodb:tapt`.

    Returns {"a", "b": {"source", "title", "ua", "ua_ci", "wa", "wa_ci"}, "difference": a minus b, as
    `estimates.estimates` gives it, "sentence", "table"}. Raises CorpusError unless both were tested on the same
    utterances with the same truth, under the same protocol and split, and with as many seeds.
    """
    sides = [read_side(str(source)) for source in (a, b)]
    check_pair(*sides)
    folds = next((side.folds for side in sides if not side.is_file), sides[0].folds)  # a run knows its parts
    rows = estimates(folds, [_in_order(side, folds) for side in sides], reference=1)
    difference = rows[0].pop("difference")
    del difference["p_holm"]  # one comparison: nothing to correct
    named = [{"source": side.source, "title": side.system.facts["title"], **row} for side, row in zip(sides, rows)]
    result = {"a": named[0], "b": named[1], "difference": difference, "sentence": sentence(difference)}
    return {**result, "table": comparison_table(result)}


def read_side(source: str) -> Side:
    """Read a predictions.tsv, or `run:system`. Raises CorpusError, FormatError."""
    folder, colon, key = source.rpartition(":")
    if not Path(source).is_dir() and not (colon and Path(folder).is_dir()):
        return _read_file(source)
    run = read_run(Path(source if Path(source).is_dir() else folder))
    systems = {system["key"]: system for system in run.facts["systems"]}
    if Path(source).is_dir() or key not in systems:
        known = ", ".join(f"{run.folder}:{key}" for key in systems)
        raise CorpusError(f"{source}: names no system of the run; expected one of {known}")
    return Side(source, run.classes, run.folds, read_system(run, systems[key]))


def _read_file(source: str) -> Side:
    predictions = read_predictions(source)
    truth = np.array([predictions.classes.index(label) for label in predictions.truth])
    fold = Fold(FILE, FILE, False, FILE, predictions.ids, truth, (np.arange(len(truth)),))
    system = System({"key": source, "title": source}, (FILE,), (predictions.probabilities.argmax(1)[None],))
    return Side(source, predictions.classes, (fold,), system)


def check_pair(a: Side, b: Side) -> None:
    """Raise CorpusError, naming how, if two results cannot be compared."""
    from_runs = not (a.is_file or b.is_file)
    names = [tuple(fold.name for fold in side.folds) for side in (a, b)]
    if a.classes != b.classes:
        _refuse(a, b, f"classes {', '.join(a.classes)} and {', '.join(b.classes)}")
    if from_runs and a.folds[0].protocol != b.folds[0].protocol:
        _refuse(a, b, f"protocols {a.folds[0].protocol} and {b.folds[0].protocol}")
    if len(a.folds) != len(b.folds) or (from_runs and names[0] != names[1]):
        _refuse(a, b, f"folds {', '.join(names[0])} and {', '.join(names[1])}")
    for one, other in zip(a.folds, b.folds):
        truths = [dict(zip(fold.ids, (a.classes[i] for i in fold.truth))) for fold in (one, other)]
        if different := describe_difference(truths[1], truths[0]):
            _refuse(a, b, f"in fold {one.name} the second {different}")
        if from_runs and one.split != other.split:
            _refuse(a, b, f"fold {one.name} was split in two ways (hash {one.split[:12]} and {other.split[:12]})")
    seeds = [side.system.seeds for side in (a, b)]
    if len(seeds[0]) != len(seeds[1]) and (UNSEEDED,) not in seeds:
        _refuse(a, b, f"seeds {', '.join(map(str, seeds[0]))} and {', '.join(map(str, seeds[1]))}")


def _refuse(a: Side, b: Side, what: str) -> None:
    raise CorpusError(f"{a.source} and {b.source}: {what}; compare systems tested on the same split and seeds")


def _in_order(side: Side, folds: Sequence[Fold]) -> System:
    """A side's system with its predictions in the order of the folds' utterances."""
    predicted = []
    for fold, own, rows in zip(folds, side.folds, side.system.predicted):
        predicted.append(rows[:, places(fold.ids, own.ids)])
    return System(side.system.facts, side.system.seeds, tuple(predicted))


def sentence(difference: dict[str, Any]) -> str:
    """What can be said, in plain words."""
    said = " and ".join(f"{percent(difference, name, signed=True)} points of {name.upper()}" for name in MEASURES)
    p = f"McNemar's {p_value(difference['p'])}"
    if difference["verdict"] != "within noise":
        return f"a is {difference['verdict']} than b by more than noise: {said}, {p}."
    both = [name.upper() for name in MEASURES if difference[f"{name}_ci"][0] <= 0 <= difference[f"{name}_ci"][1]]
    reasons = [f"the interval of {' and of '.join(both)} holds 0"] * bool(both)
    reasons += [f"{p} is not below {ALPHA}"] * (difference["p"] >= ALPHA)
    return f"The difference is within noise: {', and '.join(reasons) or 'UA and WA contradict each other'} ({said})."


def comparison_table(result: dict[str, Any]) -> str:
    """The comparison as plain text."""
    difference = result["difference"]
    lines: list[Sequence[str]] = [("", "UA %", "WA %")]
    lines += [(f"{name}: {result[name]['source']}", *_cells(result[name])) for name in ("a", "b")]
    lines += [("a - b", *_cells(difference, signed=True))]
    tests: list[Sequence[str]] = [("seed", "only a right", "only b right", "McNemar's test", "")]
    for test in difference["mcnemar"]:
        kind = "exact binomial" if test["exact"] else "chi-square"
        tests.append((*(str(test[key]) for key in ("seed", "only_this", "only_reference")), kind, p_value(test["p"])))
    return f"{aligned(lines)}\n{aligned(tests)}\n{result['sentence']}\n"


def _cells(row: dict[str, Any], signed: bool = False) -> Sequence[str]:
    return [percent(row, measure, signed) for measure in ("ua", "wa")]
