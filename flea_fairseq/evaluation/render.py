"""Rows of results -> a plain table, and one HTML page that needs nothing but itself."""

from collections.abc import Sequence

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from flea_fairseq.evaluation.figures import confusion_figure, fold_figure
from flea_fairseq.evaluation.metrics import recalls

PROTOCOLS = {
    "inner": "One session is tested, the next one selects the epoch, the others train. Nothing is tuned on the tested "
    "session.",
    "paper": "One speaker of the held-out session selects the epoch, the other one is tested, and the other way round.",
    "authors": "One speaker of the held-out session selects the epoch, and the score is the mean over both speakers, "
    "so half of what is scored was selected on.",
    "oracle": "The epoch is selected on the tested session itself: an upper bound, not a result.",
}
FRAME_MEASURES = {
    "frame_ua": ("Frame UA of the cluster labels", "frame_chance"),
    "attention_auc": ("AUC of the attention weights", "auc_chance"),
    "energy_auc": ("AUC of the frame energy", "auc_chance"),
}


def frame_rows(frames: Sequence[dict]) -> list[dict]:
    """For each frame-level measure its values by fold, their mean, and what chance gives."""
    rows = []
    for measure, (title, chance) in FRAME_MEASURES.items():
        values = [frame[measure] for frame in frames]
        if values and None not in values:
            rows.append({"title": title, "values": values, "mean": float(np.mean(values)), "chance": frames[0][chance]})
    return rows


def table(rows: Sequence[dict], frames: Sequence[dict] = ()) -> str:
    """The means as plain text, UA and WA in % with their 95 % intervals, and the frame-level measures below."""
    lines = [("system", "protocol", "seed", "UA %", "WA %", "folds", "n")]
    for row in rows:
        if row["fold"] == "mean":
            numbers = [_percent(row[m], row[f"{m}_ci"]) for m in ("ua", "wa")]
            lines.append((row["title"], row["protocol"], str(row["seed"]), *numbers, str(row["folds"]), str(row["n"])))
    text = _aligned(lines)
    if measures := frame_rows(frames):
        text += "\n" + _aligned(
            [("against the known spans", "mean", "chance")]
            + [(row["title"], f"{row['mean']:.3f}", f"{row['chance']:.3f}") for row in measures]
        )
    return text


def _percent(value: float, interval: Sequence[float]) -> str:
    return f"{100 * value:.1f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() + "\n" for line in lines)


def page(
    facts: dict,
    rows: Sequence[dict],
    pooled: dict[str, np.ndarray],
    frames: Sequence[dict],
    classes: Sequence[str],
) -> str:
    """The HTML report. `pooled`: a confusion matrix (C, C) a system.

    Everything that comes from files is escaped; only our own figures, which escape for themselves, are not.
    """
    means = [row for row in rows if row["fold"] == "mean"]
    by_fold = {key: [row for row in rows if row["system"] == key and row["fold"] != "mean"] for key in pooled}
    environment = Environment(
        loader=PackageLoader("flea_fairseq.evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: "-" if value is None or value != value else f"{100 * value:.1f}"
    return environment.get_template("report.html.j2").render(
        facts=facts,
        protocol=PROTOCOLS.get(facts["protocol"], ""),
        classes=classes,
        means=means,
        by_fold=by_fold,
        folds=[row["fold"] for row in by_fold[means[0]["system"]]],
        ua_figure=fold_figure(
            [row["title"] for row in means],
            [[fold["ua"] for fold in by_fold[row["system"]]] for row in means],
            [row["ua_ci"] for row in means],
            chance=1 / len(classes),
        ),
        confusions={key: matrix.tolist() for key, matrix in pooled.items()},
        figures={row["system"]: confusion_figure(row["title"], pooled[row["system"]], classes) for row in means},
        recalls={key: recalls(matrix).tolist() for key, matrix in pooled.items()},
        frames=frames,
        frame_rows=frame_rows(frames),
    )
