"""The table of one or several score files: a line a system, with intervals over recordings.

python examples/frames/show.py work/frames/emodb/test.json --results work/frames/emodb/results.json
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from flea_fairseq.data.files import read_text
from flea_fairseq.data.prepare import run
from flea_fairseq.errors import CorpusError

DRAWS = 2000
COLUMNS = ("system", "frame AUC, 1 - P(neutral)", "frame AUC, attention", "frame UA %", "EDER %",
           "boundary error ms (found %)", "utterance UA %", "utterance WA %")  # fmt: skip

Rows = list[dict[str, Any]]


def table(rows: Rows, results: dict[str, str]) -> str:
    """Markdown; the means over seeds, and 95 % intervals from drawing recordings again, the same ones everywhere."""
    names = list(dict.fromkeys(row["system"] for row in rows))
    recordings = sorted({(row["fold"], row["recording"]) for row in rows})
    drawn = np.random.default_rng(1).integers(len(recordings), size=(DRAWS, len(recordings)))
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    for name in names:
        by: dict[tuple[str, str], Rows] = defaultdict(list)
        for row in rows:
            if row["system"] == name:
                by[row["fold"], row["recording"]].append(row)
        cells = [by.get(key, []) for key in recordings]
        found = [row["edge"] for cell in cells for row in cell if row["edge"] is not None]
        total = sum(len(cell) for cell in cells if cell and cell[0]["eder"] is not None)
        edges = f"{np.median(found):.0f} ({100 * len(found) / total:.0f})" if found else ""
        lines.append(
            f"| {name} | {mean_of(cells, 'auc', drawn)} | {mean_of(cells, 'attention_auc', drawn)} "
            f"| {frame_ua(cells, drawn)} | {mean_of(cells, 'eder', drawn, 100)} "
            f"| {edges} | {results.get(name, ' | ')} |"
        )
    return "\n".join(lines)


def mean_of(cells: Sequence[Rows], key: str, drawn: np.ndarray, scale: float = 1) -> str:
    """A measure's mean over recordings that have it, of their means over seeds."""
    values = np.array([_mean([row[key] for row in cell]) for cell in cells])
    if np.isnan(values).all():
        return ""
    low, high = np.nanpercentile(np.nanmean(values[drawn], 1), (2.5, 97.5))
    digits = 1 if scale == 100 else 2
    return f"{scale * np.nanmean(values):.{digits}f} ({scale * low:.{digits}f}-{scale * high:.{digits}f})"


def frame_ua(cells: Sequence[Rows], drawn: np.ndarray) -> str:
    """UA of all frames, from the confusions that recordings have in the mean of all seeds."""
    if any(row["confusion"] is None for cell in cells for row in cell) or not any(cells):
        return ""
    size = len(next(row["confusion"] for cell in cells for row in cell))
    sums = np.stack(
        [np.mean([row["confusion"] for row in cell], 0) if cell else np.zeros((size, size)) for cell in cells]
    )

    def ua(confusion: np.ndarray) -> np.ndarray:
        return np.nanmean(np.diagonal(confusion, axis1=-2, axis2=-1) / confusion.sum(-1), -1)

    low, high = np.percentile(ua(np.stack([sums[row].sum(0) for row in drawn])), (2.5, 97.5))
    return f"{100 * ua(sums.sum(0)):.1f} ({100 * low:.1f}-{100 * high:.1f})"


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else np.nan


def utterance_scores(path: Path) -> dict[str, str]:
    """`UA | WA` of each system, with intervals, from a results.json."""
    means = [row for row in json.loads(read_text(path)) if row.get("fold") == "mean"]
    cell = "{:.1f} ({:.1f}-{:.1f})"
    return {
        row["system"]: " | ".join(
            cell.format(*(100 * value for value in (row[name], *row[f"{name}_ci"]))) for name in ("ua", "wa")
        )
        for row in means
    }


@click.command(epilog="Example: python examples/frames/show.py work/test.json --results work/run/results.json")
@click.argument("scores", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--results", type=click.Path(path_type=Path), help="results.json of the run: scores of utterances.")
def main(scores: tuple[Path, ...], results: Path | None) -> None:
    """Print a Markdown table of what score.py wrote to SCORES."""
    rows = [row for path in scores for row in json.loads(read_text(path))]
    if not rows:
        raise CorpusError(f"{', '.join(map(str, scores))}: no rows; run score.py again")
    print(table(rows, utterance_scores(results) if results else {}))
    first = next(iter(rows))["system"]
    frames, left_out = (sum(row[key] for row in rows if row["system"] == first) for key in ("frames", "left_out"))
    print(f"\n{frames} frames scored, {left_out} within 0.1 s of a joint left out.")


if __name__ == "__main__":
    run(main)
