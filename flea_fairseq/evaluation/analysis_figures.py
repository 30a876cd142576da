"""Figures of the report's analysis, as small SVG: short paths, coordinates with one decimal."""

import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flea_fairseq.drawing import ACCENT, COLOURS, binned
from flea_fairseq.evaluation.curves import Curve, Curves
from flea_fairseq.evaluation.figures import INK, STYLE, to_svg

POINTS = 300  # a line, at most
FEWEST = 40  # a line, however many lines there are
MARKERS = ("o", "^", "s", "X", "D", "v", "P", "*")


def learning_figure(name: str, curves: Sequence[Curves], chance: float, points: int = POINTS) -> str:
    """Training loss by update, and validation UA by epoch if there is one, a thin line a training; SVG.

    A ring marks the epoch that was kept; chance: UA of guessing; points: at most so many a line.
    """
    validated = any(curve.ua for curve in curves)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 1.9), layout="constrained")
        loss, *others = figure.subplots(1, 1 + validated, squeeze=False)[0]
        for curve in curves:
            _draw(loss, curve.loss, points)
        loss.set(xlabel="update", ylabel="loss (bits)", xlim=(0, None))
        for ua in others:
            for curve in curves:
                _draw(ua, [(epoch, 100 * value) for epoch, value in curve.ua], points)
            kept = np.array([curve.kept for curve in curves if curve.kept]).reshape(-1, 2).T
            ua.plot(kept[0], 100 * kept[1], "o", color=INK, fillstyle="none", markersize=4, markeredgewidth=0.8)
            ua.axhline(100 * chance, color=INK, linestyle=":", linewidth=1)
            ua.set(xlabel="epoch", ylabel="validation UA (%)", xlim=(0, None), ylim=(0, 101))
        return _compact(figure, f"Learning curves of {name}; the numbers are in the table")


def projection_figure(projection: dict[str, Any]) -> str:
    """The same frames before and after, side by side; a shape and a colour an emotion; SVG."""
    emotions = np.array(projection["emotions"])
    names = sorted(set(projection["emotions"]))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 4.6), layout="constrained")
        for axes, side in zip(figure.subplots(1, 2), ("before", "after")):
            points = np.array(projection[side]["points"], dtype=float)
            for number, name in enumerate(names):
                marker, colour = MARKERS[number % len(MARKERS)], COLOURS[number % len(COLOURS)]
                style = {"markersize": 3.5, "markeredgewidth": 0, "alpha": 0.75}
                axes.plot(*points[emotions == name].T, marker, color=colour, label=name, **style)
            axes.set_title(side, fontsize=10)
            axes.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
        handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=min(len(names), 6), frameon=False, markerscale=2)
        return _compact(figure, "Frame embeddings before and after alignment, by emotion; the numbers are in the table")


def attention_figure(example: dict[str, Any]) -> str:
    """An utterance's waveform, and its attention in multiples of uniform attention, over seconds; SVG."""
    seconds = np.arange(len(example["weights"])) / 50 + 0.01  # a frame's middle
    at, low, high, weights = (
        binned(values, POINTS, reduce)
        for values, reduce in ((seconds, np.mean), (example["low"], np.min), (example["high"], np.max),
                               (example["weights"], np.mean))
    )  # fmt: skip
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 1.9), layout="constrained")
        wave = figure.add_subplot()
        peak = max(np.abs([*low, *high]).max(), 1e-3)
        wave.fill_between(at, low / peak, high / peak, color=INK, alpha=0.35, linewidth=0)
        wave.set(xlabel="seconds", yticks=[], ylim=(-1.05, 1.05), xlim=(0, seconds[-1] + 0.01))
        curve = wave.twinx()
        curve.plot(at, weights / example["uniform"], color=ACCENT, linewidth=1.6)
        curve.axhline(1, color=INK, linestyle="--", linewidth=0.8)
        curve.set(ylabel="attention / uniform", ylim=(0, max(2, 1.1 * weights.max() / example["uniform"])))
        for axes in (wave, curve):
            axes.spines[["top", "left"]].set_visible(False)
        return _compact(figure, f"Waveform and attention of {example['id']}")


def points_a_line(lines: int, total: int = 60000) -> int:
    """How many points each of so many lines may have, for a page of a few megabytes."""
    return max(FEWEST, min(POINTS, total // max(lines, 1)))


def _draw(axes: Axes, curve: Curve, points: int) -> None:
    if curve:
        axes.plot(*(binned(values, points) for values in zip(*curve)), color=ACCENT, linewidth=0.9, alpha=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def _compact(figure: Figure, label: str) -> str:
    """The SVG with its coordinates rounded to a tenth of a point."""
    coordinates = re.compile(r' (?:d|x|y)="[^"]*"')
    return coordinates.sub(lambda found: re.sub(r"(\d+\.\d)\d+", r"\1", found[0]), to_svg(figure, label))
