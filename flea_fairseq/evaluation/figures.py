"""Figures for the report, as SVG to stand inside an HTML page: its text colour and font, no file, no network."""

import html
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

INK = "#010203"  # replaced by the page's own text colour
ACCENT = "#3f7fc1"  # legible on white and on black
SHADES = LinearSegmentedColormap.from_list("shades", [(*to_rgb(ACCENT), 0.0), (*to_rgb(ACCENT), 0.7)])
STYLE = {
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

    folds: UA in 0..1, a list a system; intervals: (low, high) a system.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 0.9 + 0.42 * len(titles)), layout="constrained")
        axes = figure.add_subplot()
        for row, (values, interval) in enumerate(zip(folds, intervals)):
            axes.plot(100 * np.array(interval), [row, row], color=ACCENT, linewidth=7, alpha=0.4, solid_capstyle="butt")
            axes.plot(100 * np.mean(values), row, "|", color=INK, markersize=16, markeredgewidth=2)
            axes.plot(100 * np.array(values), [row] * len(values), "o", color=INK, fillstyle="none", markersize=5)
        axes.axvline(100 * chance, color=INK, linestyle=":", linewidth=1)
        axes.text(100 * chance + 1, len(titles) - 0.55, "chance", fontsize=9)
        axes.set(xlim=(0, 100), ylim=(len(titles) - 0.5, -0.5), xlabel="UA (%)")
        axes.set_yticks(range(len(titles)), titles)
        axes.tick_params(left=False)
        axes.spines[["top", "right", "left"]].set_visible(False)
        return to_svg(figure, "UA of each system on each fold, its mean and 95 % interval; numbers are in the table")


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
