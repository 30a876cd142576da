"""Systems on the same utterances -> UA and WA over folds and seeds, with intervals, and differences to one of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flea_fairseq.evaluation.results import UNSEEDED, Fold, System
from flea_fairseq.evaluation.statistics import (
    MEASURES,
    Part,
    bootstrap,
    holm,
    mcnemar,
    mean_scores,
    over_seeds,
    verdict,
)


def estimates(folds: Sequence[Fold], systems: Sequence[System], reference: int | None) -> list[dict[str, Any]]:
    """For each system {"ua", "ua_ci", "wa", "wa_ci"}, means over folds and seeds with 95 % intervals.

    All but the reference also have "difference", theirs minus the reference's: {"ua", "ua_ci", "wa", "wa_ci",
    "mcnemar": [{"seed", "only_this", "only_reference", "exact", "p"}], "p": over the seeds, "p_holm": corrected for the
    number of systems, "verdict"}.
    """
    made = parts(folds, systems)
    values = mean_scores(made, [np.ones((1, len(part.truth))) for part in made])[..., 0]
    intervals, differences = bootstrap(made, reference or 0)
    rows = [_numbers(values[:, i], intervals[:, i]) for i in range(len(systems))]
    if reference is None:
        return rows
    others = [i for i in range(len(systems)) if i != reference]
    for i in others:
        tests = _tests(systems[i], systems[reference], folds)
        numbers = _numbers(values[:, i] - values[:, reference], differences[:, i])
        rows[i]["difference"] = {**numbers, "mcnemar": tests, "p": over_seeds([test["p"] for test in tests])}
    for i, p in zip(others, holm([rows[i]["difference"]["p"] for i in others])):
        made = rows[i]["difference"]
        made.update(p_holm=p, verdict=verdict(made["ua_ci"], made["wa_ci"], p))
    return rows


def parts(folds: Sequence[Fold], systems: Sequence[System]) -> list[Part]:
    """The parts of all folds; a fold's parts share its weight, and folds weigh the same."""
    made = []
    for i, fold in enumerate(folds):
        right = np.stack([(system.predicted[i] == fold.truth).mean(0) for system in systems], axis=1)
        weight = 1 / (len(folds) * len(fold.parts))
        made += [Part(fold.truth[part], right[part], weight) for part in fold.parts]
    return made


def _numbers(values: np.ndarray, intervals: np.ndarray) -> dict[str, Any]:
    """UA and WA (2,) with intervals (2, 2), as plain rounded numbers."""
    numbers = {}
    for measure, value, interval in zip(MEASURES, values.tolist(), intervals.tolist()):
        numbers[measure] = round(value, 6)
        numbers[f"{measure}_ci"] = [round(edge, 6) for edge in interval]
    return numbers


def _tests(system: System, reference: System, folds: Sequence[Fold]) -> list[dict[str, Any]]:
    """McNemar's test a seed, over the utterances of all folds; a system without seeds meets each of the other's."""
    rows = []
    for seed, mine, other in seed_pairs(system, reference):
        right = [
            np.concatenate([which.predicted[i][place] == fold.truth for i, fold in enumerate(folds)])
            for which, place in ((system, mine), (reference, other))
        ]
        test = mcnemar(*right)
        counts = {"only_this": test.only_first, "only_reference": test.only_second}
        rows.append({"seed": seed, **counts, "exact": test.exact, "p": test.p})
    return rows


def seed_pairs(one: System, other: System) -> list[tuple[int | str, int, int]]:
    """Which seeds are compared: (name, place in one, place in the other)."""
    count = max(len(one.seeds), len(other.seeds))
    seeds = other.seeds if one.seeds == (UNSEEDED,) else one.seeds
    places = [[0] * count if system.seeds == (UNSEEDED,) else range(count) for system in (one, other)]
    return list(zip(seeds, *places))
