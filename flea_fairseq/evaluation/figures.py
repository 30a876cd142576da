"""Figures for the report, as SVG to stand inside an HTML page: its text colour and font, no file, no network."""

import html
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from flea_fairseq.drawing import ACCENT

INK = "#010203"  # replaced by the page's own text colour
SHADES = LinearSegmentedColormap.from_list("shades", [(*to_rgb(ACCENT), 0.0), (*to_rgb(ACCENT), 0.7)])
STYLE: Any = {  # matplotlib's own type lists every key
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "flea_fairseq",  # the same figure gives the same bytes
    "text.parse_math": False,  # names are not formulas
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def fold_figure(
    titles: Sequence[str], folds: Sequence[Sequence[float]], intervals: Sequence[Sequence[float]], chance: float
) -> str:
    """UA of each system, from the top: a ring a fold, a line over the interval, a bar at the mean; SVG.

    folds: UA in 0..1, a list a system; intervals: (low, high) a system. The axis covers what is drawn, in tens.
    """
    drawn = [value for values in (*folds, *intervals) for value in values]
    left, right = 10 * np.floor(10 * min(drawn)), 10 * np.ceil(10 * max(drawn))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.9 + 0.3 * len(titles)), layout="constrained")
        axes = figure.add_subplot()
        for row, (values, interval) in enumerate(zip(folds, intervals)):
            axes.plot(
                100 * np.array(interval), [row, row], color=ACCENT, linewidth=9, alpha=0.45, solid_capstyle="butt"
            )
            axes.plot(100 * np.mean(values), row, "|", color=INK, markersize=13, markeredgewidth=2)
            axes.plot(
                100 * np.array(values), [row] * len(values), "o", color=INK, fillstyle="none", markersize=4, alpha=0.7
            )
        if left <= 100 * chance <= right:
            axes.axvline(100 * chance, color=INK, linestyle=":", linewidth=1)
            axes.text(100 * chance, -0.5, " chance", fontsize=9)
        axes.set(xlim=(left, max(right, left + 10)), ylim=(len(titles) - 0.5, -0.5), xlabel="UA (%)")
        axes.set_yticks(range(len(titles)), titles)
        axes.tick_params(left=False)
        axes.grid(axis="x", color=INK, alpha=0.12)
        axes.spines[["top", "right", "left"]].set_visible(False)
        return to_svg(figure, "UA of each system on each fold, its mean and 95 % interval; numbers are in the table")


def heat_map(
    title: str, layers: Sequence[int], clusters: Sequence[int], ua: np.ndarray, span: tuple[float, float]
) -> str:
    """UA of each layer (row) and K (column), its number in the cell and the highest framed; SVG.

    ua: (layers, K) in 0..1, nan where nothing was run; span: the UA of the lightest and of the darkest cell.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 0.8 * len(clusters), 1.1 + 0.55 * len(layers)), layout="constrained")
        axes = figure.add_subplot(title=title)
        low, high = span[0], max(span[1], span[0] + 1e-6)
        axes.pcolormesh(np.ma.masked_invalid(ua), cmap=SHADES, vmin=low - 0.15 * (high - low), vmax=high)
        best = np.nanmax(ua)
        for (row, column), value in np.ndenumerate(ua):
            text = "-" if np.isnan(value) else f"{100 * value:.1f}"
            weight = "bold" if value == best else "normal"
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", weight=weight)
            if value == best:
                axes.add_patch(Rectangle((column + 0.04, row + 0.04), 0.92, 0.92, fill=False, edgecolor=INK))
        axes.set(xlabel="K", ylabel="layer", ylim=(len(layers), 0))
        axes.set_xticks(np.arange(len(clusters)) + 0.5, [str(k) for k in clusters])
        axes.set_yticks(np.arange(len(layers)) + 0.5, [str(layer) for layer in layers])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return to_svg(figure, f"UA in %, {title}: layers in rows, K in columns; numbers are in the table")


def confusion_figure(title: str, confusion: np.ndarray, classes: Sequence[str]) -> str:
    """Confusion matrix (C, C), truth in rows, as % of each row; SVG."""
    support = confusion.sum(1, keepdims=True)
    share = np.divide(confusion, support, out=np.zeros(confusion.shape), where=support > 0)
    size = 1.1 + 0.6 * len(classes)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(size + 0.3, size), layout="constrained")
        axes = figure.add_subplot()
        axes.pcolormesh(share, cmap=SHADES, vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(share):
            weight = "bold" if row == column else "normal"
            axes.text(column + 0.5, row + 0.5, f"{100 * value:.0f}", ha="center", va="center", weight=weight)
        axes.set(xlabel="predicted", ylabel="true (% of row)", ylim=(len(classes), 0), aspect="equal")
        axes.set_xticks(np.arange(len(classes)) + 0.5, classes, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(np.arange(len(classes)) + 0.5, classes)
        axes.tick_params(length=0)
        return to_svg(figure, f"Confusion matrix of {title} in % of the true class; counts are in the table")


def to_svg(figure: Figure, label: str) -> str:
    """An SVG element without a background, with a label for readers who do not see it."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # no version, no time
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    svg = file.getvalue().partition("<svg ")[2].replace(INK, "currentColor")
    return f'<svg role="img" aria-label="{html.escape(label)}" {svg}'
