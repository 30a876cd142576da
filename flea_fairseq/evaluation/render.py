"""Rows of results -> one HTML page that needs nothing but itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from flea_fairseq.evaluation.figures import confusion_figure, fold_figure, heat_map
from flea_fairseq.evaluation.frames import frame_rows
from flea_fairseq.evaluation.grid import Grid, pooling_title, read_grid
from flea_fairseq.evaluation.metrics import recalls
from flea_fairseq.evaluation.statistics import MEASURES
from flea_fairseq.evaluation.tables import in_words, p_value, titles

PROTOCOLS = {
    "inner": "One session is tested, the next one selects the epoch, the others train. Nothing is tuned on the tested "
    "session.",
    "paper": "One speaker of the held-out session selects the epoch, the other one is tested, and the other way round.",
    "authors": "One speaker of the held-out session selects the epoch, and the score is the mean over both speakers, "
    "so half of what is scored was selected on.",
    "oracle": "The epoch is selected on the tested session itself: an upper bound, not a result.",
}
FEW = 4  # systems whose confusions are all shown at once


def page(
    facts: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    confusions: dict[str, np.ndarray],
    frames: Sequence[dict[str, Any]],
    classes: Sequence[str],
    analysis: dict[str, Any],
) -> str:
    """The HTML report. confusions: a matrix (C, C) a system; analysis: what report_analysis.html.j2 shows.

    Everything that comes from files is escaped; only our own figures, which escape for themselves, are not.
    """
    means = [row for row in rows if row["fold"] == "mean"]
    single = {key: [row for row in rows if row["system"] == key and row["fold"] != "mean"] for key in confusions}
    folds = {key: _averaged(of, "fold") for key, of in single.items()}
    grid = read_grid(means)
    shown = prominent(means, grid, facts.get("reference"))
    return environment().get_template("report.html.j2").render(
        facts=facts,
        protocol=PROTOCOLS.get(facts["protocol"], ""),
        classes=classes,
        means=means,
        notes=[(system["title"], system["note"]) for system in facts["systems"] if system.get("note")],
        reference=titles(means).get(facts.get("reference") or ""),
        ua_figure=fold_figure(
            [row["title"] for row in means],
            [[fold["ua"] for fold in folds[row["system"]]] for row in means],
            [row["ua_ci"] for row in means],
            chance=1 / len(classes),
        ),
        grid=grid and {"lines": grid.table(means), "poolings": grid.poolings, "cells": len(grid.cells)},
        heat_maps=heat_maps(grid) if grid else [],
        single=single,
        folds=folds,
        seeds={key: _averaged(of, "seed") for key, of in single.items()},
        recalls={key: recalls(matrix).tolist() for key, matrix in confusions.items()},
        cards=[
            {
                "title": row["title"],
                "what": shown.get(row["system"]),
                "counts": confusions[row["system"]].tolist(),
                "figure": confusion_figure(row["title"], confusions[row["system"]], classes),
            }
            for row in means
        ],
        frames=frames,
        frame_rows=frame_rows(frames),
        analysis=analysis,
    )  # fmt: skip


def environment() -> Environment:
    """Templates of this package, escaping what they are given."""
    made = Environment(
        loader=PackageLoader("flea_fairseq.evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["percent"] = lambda value: "-" if value is None or value != value else f"{100 * value:.1f}"
    made.filters["signed"] = lambda value: f"{100 * value:+.1f}"
    made.filters.update(in_words=in_words, p_value=p_value, pooling_title=pooling_title)
    return made


def heat_maps(grid: Grid) -> list[str]:
    """A figure for each pooling."""
    return [
        heat_map(pooling_title(pooling), grid.layers, grid.clusters, grid.ua(pooling), grid.span())
        for pooling in grid.poolings
    ]


def prominent(means: Sequence[dict[str, Any]], grid: Grid | None, reference: str | None) -> dict[str, str]:
    """The systems whose confusions stand open, and why: all if they are few, else the reference and the extremes."""
    if len(means) <= FEW:
        return {row["system"]: "" for row in means}
    among, where = (list(grid.cells.values()), "of the grid") if grid else (means, "of all")
    by_ua = sorted(among, key=lambda row: row["ua"])
    reasons = {by_ua[0]["system"]: f"Lowest UA {where}", by_ua[-1]["system"]: f"Highest UA {where}"}
    return {reference: "What others are compared with", **reasons} if reference else reasons


def _averaged(rows: Sequence[Mapping[str, Any]], by: str) -> list[dict[str, Any]]:
    """Rows of one fold (or seed) -> one with the means over the other, in order."""
    groups: dict[str, Any] = {}
    for row in rows:
        groups.setdefault(row[by], []).append(row)
    return [
        {**group[0], **{measure: float(np.mean([row[measure] for row in group])) for measure in MEASURES}}
        for group in groups.values()
    ]
