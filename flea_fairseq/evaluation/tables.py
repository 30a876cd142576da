"""Results as plain text, for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from flea_fairseq.evaluation.frames import frame_rows


def table(facts: Mapping[str, Any], rows: Sequence[dict[str, Any]], frames: Sequence[dict[str, Any]] = ()) -> str:
    """The means over folds and seeds: UA and WA in % with 95 % intervals, the deviation of UA, and the difference to
    the reference; the frame-level measures below."""
    means = [row for row in rows if row["fold"] == "mean"]
    lines = [("system", "UA %", "WA %", "UA deviation", "UA difference", "")]
    for row in means:
        deviation = "-" if row["ua_std"] is None else f"{100 * row['ua_std']:.1f}"
        difference = row.get("difference")
        compared = (percent(difference, "ua", signed=True), in_words(difference)) if difference else ("", "")
        lines.append((row["title"], percent(row, "ua"), percent(row, "wa"), deviation, *compared))
    text = f"{summary(facts, means[0])}; 95 % intervals in brackets, deviation over folds and seeds"
    if facts.get("reference"):
        text += f"; differences to {titles(means)[facts['reference']]}, p by McNemar's test, Holm-corrected"
    text += "\n" + aligned(lines)
    if measures := frame_rows(frames):
        numbers = [(row["title"], f"{row['mean']:.3f}", f"{row['chance']:.3f}") for row in measures]
        text += "\n" + aligned([("against the known spans", "mean", "chance"), *numbers])
    return text


def summary(facts: Mapping[str, Any], mean: dict[str, Any]) -> str:
    """Protocol, folds, seeds and how much was tested."""
    folds = f"{mean['folds']} {'fold' if mean['folds'] == 1 else 'folds'}"
    seeds = f"{'seed' if len(facts['seeds']) == 1 else 'seeds'} {', '.join(map(str, facts['seeds']))}"
    return f"protocol {facts['protocol']}, {folds}, {seeds}, {mean['n']} utterances"


def titles(means: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Each system's title by its key."""
    return {row["system"]: row["title"] for row in means}


def percent(row: Mapping[str, Any], measure: str, signed: bool = False) -> str:
    """`74.1 [72.8, 75.4]`: a value and its interval in %."""
    sign = "+" if signed else ""
    low, high = row[f"{measure}_ci"]
    return f"{100 * row[measure]:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def in_words(difference: Mapping[str, Any]) -> str:
    """`better (p = 0.003)` or `within noise`; p is the corrected one."""
    verdict = difference["verdict"]
    return verdict if verdict == "within noise" else f"{verdict} ({p_value(difference['p_holm'])})"


def p_value(p: float) -> str:
    """`p = 0.03`, `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns side by side, each as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() + "\n" for line in lines)
