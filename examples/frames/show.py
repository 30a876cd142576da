"""The tables of a score file: a line a system, with intervals, and what it is worth against another one.

    python examples/frames/show.py work/frames/emodb/test.json --valid work/frames/emodb/valid.json \
        --against "flea_l3_k50_mean, sliding 1 s" --results work/frames/emodb/results.json
"""

import json
from pathlib import Path

import click
import numpy as np
from measures import Chosen, Draws, Rows, by_system, choices, interval, measured, median_error
from recordings import NEAR

from flea_fairseq.data.files import read_json, read_text
from flea_fairseq.data.prepare import run
from flea_fairseq.errors import CorpusError, ExperimentError

COLUMNS = ("system", "frame AUC", "attention AUC", "frame UA %", "EDER %", "boundary F1 % (precision, recall)",
           "median error ms", "read at", "utterance UA %", "utterance WA %")  # fmt: skip
AGAINST = ("system", "frame AUC, difference", "frame UA, difference", "each speaker's frame AUC",
           "each speaker's frame UA %")  # fmt: skip


def read_rows(path: Path) -> Rows:
    """What score.py wrote."""
    rows = read_json(path, ("rows",), "write it again with score.py")["rows"]
    if not rows:
        raise CorpusError(f"{path}: no rows; run score.py again")
    return rows


def tables(rows: Rows, valid: Rows, against: str | None, results: dict[str, str]) -> str:
    """Markdown. How a system is read is chosen on validation rows; results: `UA | WA` of utterances, by system."""
    chosen, draws, systems = choices(valid), Draws(rows), by_system(rows)
    if lost := [name for name in systems if name not in chosen]:
        raise ExperimentError(f"{lost[0]} has no scores of validation speakers, on which its reading is chosen")
    known = {name: measured(draws.sums(own, chosen[name])) for name, own in systems.items()}
    named = {name: values for name, values in known.items() if "side" not in values}
    shown = [
        _head(COLUMNS), *(_line(name, known[name], systems[name], chosen[name], results) for name in named), "",
        _footnote(rows, known),
    ]  # fmt: skip
    if against is not None:
        if against not in systems:
            raise ExperimentError(f"--against {against}: not a system; there are {', '.join(systems)}")
        judged = [name for name, values in named.items() if {"auc", "ua"} <= values.keys()]
        shown += ["", f"Against {against}:", "", _head(AGAINST)]
        shown += [_difference(name, known[name], known[against], systems[name], chosen[name]) for name in judged]
    shown += ["", "Frame AUC and frame UA in %, by the seconds over which frames are averaged:", "", *_widths(rows)]
    return "\n".join(shown) + "\n"


def _head(columns: tuple[str, ...]) -> str:
    return f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"


def _line(name: str, known: dict[str, np.ndarray], rows: Rows, chosen: Chosen, results: dict[str, str]) -> str:
    cells = [name, *(_cell(known, measure) for measure in ("auc", "attention")),
             *(_cell(known, measure, 100) for measure in ("ua", "eder"))]  # fmt: skip
    read = f"{chosen.width:g} s"
    if chosen.price:
        shares = [f"{100 * known[measure][0]:.0f}" if measure in known else "-" for measure in ("precision", "recall")]
        error = median_error(rows, chosen.price)
        cells += [f"{_cell(known, 'f1', 100)} ({', '.join(shares)})", "none" if error is None else f"{error:.0f}"]
        read += f", {chosen.price:g} nats"
    else:
        cells += ["", ""]
    return f"| {' | '.join(cells)} | {read} | {results.get(name, ' | ')} |"


def _cell(known: dict[str, np.ndarray], measure: str, scale: int = 1) -> str:
    return _with_interval(known[measure], scale) if measure in known else ""


def _with_interval(values: np.ndarray, scale: int = 1, sign: str = "") -> str:
    value, low, high = (scale * number for number in interval(values))
    digits = 1 if scale == 100 else 2
    return f"{value:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def _difference(
    name: str, known: dict[str, np.ndarray], other: dict[str, np.ndarray], rows: Rows, chosen: Chosen
) -> str:
    speakers = [[row for row in rows if row["speaker"] == one] for one in sorted({row["speaker"] for row in rows})]
    alone = [measured(Draws(own, draws=0).sums(own, chosen)) for own in speakers]
    cells = [
        name, _with_interval(known["auc"] - other["auc"], sign="+"),
        _with_interval(known["ua"] - other["ua"], 100, "+"),
        ", ".join(f"{one['auc'][0]:.2f}" if "auc" in one else "-" for one in alone),
        ", ".join(f"{100 * one['ua'][0]:.0f}" for one in alone),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _widths(rows: Rows) -> list[str]:
    """A table of what each system is worth at each width, whatever was chosen."""
    draws, lines = Draws(rows, draws=0), []
    widths = sorted({one["width"] for row in rows for one in row["readings"]})
    for name, own in by_system(rows).items():
        known = [measured(draws.sums(own, Chosen(width))) for width in widths]
        if known and {"auc", "ua"} <= known[0].keys():
            cells = (f"{one['auc'][0]:.2f}, {100 * one['ua'][0]:.1f}" for one in known)
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return [_head(("system", *(f"{width:g} s" for width in widths))), *lines]


def _footnote(rows: Rows, known: dict[str, dict[str, np.ndarray]]) -> str:
    first = rows[0]["system"]
    own = [row for row in rows if row["system"] == first and row["seed"] == rows[0]["seed"]]
    frames, left_out = (sum(row[key] for row in own) for key in ("frames", "left_out"))
    speakers = sorted({row["speaker"] for row in own})
    said = (
        f"{len(own)} joins of {', '.join(speakers)}: {frames} frames; {left_out} within {NEAR:g} s of a joint left out."
    )
    sides = [_with_interval(values["side"], 100) for values in known.values() if "side" in values]
    return said + "".join(
        f" The joint alone tells which side is emotional in {side} % of those that are half neutral." for side in sides
    )


def utterance_scores(path: Path) -> dict[str, str]:
    """`UA | WA` of each system, with intervals, from a results.json."""
    means = [row for row in json.loads(read_text(path)) if row.get("fold") == "mean"]
    cell = "{:.1f} ({:.1f} to {:.1f})"
    return {
        row["system"]: " | ".join(
            cell.format(*(100 * value for value in (row[name], *row[f"{name}_ci"]))) for name in ("ua", "wa")
        )
        for row in means
    }


@click.command(epilog="Example: python examples/frames/show.py w/test.json --valid w/valid.json")
@click.argument("scores", type=click.Path(path_type=Path))
@click.option("--valid", type=click.Path(path_type=Path), help="Scores on which a reading is chosen.")
@click.option("--against", help="The system with which the others are compared.")
@click.option("--results", type=click.Path(path_type=Path), help="results.json of the run: scores of utterances.")
def main(scores: Path, valid: Path | None, against: str | None, results: Path | None) -> None:
    """Print Markdown tables of what score.py wrote to SCORES."""
    rows = read_rows(scores)
    said = utterance_scores(results) if results else {}
    print(tables(rows, read_rows(valid) if valid else rows, against, said), end="")


if __name__ == "__main__":
    run(main)
