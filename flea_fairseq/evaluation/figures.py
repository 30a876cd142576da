"""Figures for the report, as SVG to stand inside an HTML page: its text colour and font, no file, no network."""

import html
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#010203"  # replaced by the page's own text colour
ACCENT = "#3f7fc1"  # legible on white and on black
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "flea_fairseq",  # the same figure gives the same bytes
    "text.parse_math": False,  # names are not formulas
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def fold_figure(
    titles: Sequence[str], folds: Sequence[Sequence[float]], intervals: Sequence[tuple[float, float]], chance: float
) -> str:
    """UA in % of each system (from the top): a ring a fold, a line over the interval, a bar at the mean; SVG."""
    with drawing(6.8, 0.9 + 0.45 * len(titles)) as (figure, svg):
        axes = figure.add_subplot()
        for row, (values, (low, high)) in enumerate(zip(folds, intervals)):
            axes.plot([100 * low, 100 * high], [row, row], color=ACCENT, linewidth=6, alpha=0.35, solid_capstyle="butt")
            axes.plot([100 * float(np.mean(values))], [row], "|", color=INK, markersize=16, markeredgewidth=2)
            axes.plot([100 * v for v in values], [row] * len(values), "o", color=INK, fillstyle="none", markersize=5)
        axes.axvline(100 * chance, color=INK, linestyle=":", linewidth=1)
        axes.annotate("chance", (100 * chance, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                      textcoords="offset points", ha="center", fontsize=9)
        axes.set(xlim=(0, 100), ylim=(len(titles) - 0.5, -0.5), xlabel="UA (%)")
        axes.set_yticks(range(len(titles)), titles)
        axes.tick_params(left=False)
        axes.spines[["top", "right", "left"]].set_visible(False)
    return svg(f"UA of {len(titles)} systems on each fold, their means and 95 % intervals; the table gives the numbers")


def confusion_figure(title: str, confusion: np.ndarray, classes: Sequence[str]) -> str:
    """Confusion matrix (C, C), truth in rows, as % of each row; SVG."""
    support = confusion.sum(1, keepdims=True)
    share = np.divide(confusion, support, out=np.zeros(confusion.shape), where=support > 0)
    size = 1.2 + 0.62 * len(classes)
    with drawing(size + 0.6, size) as (figure, svg):
        axes = figure.add_subplot()
        axes.pcolormesh(share[:, :, None] * 0 + matplotlib.colors.to_rgb(ACCENT), alpha=0.75 * share)
        for (row, column), value in np.ndenumerate(share):
            axes.text(column + 0.5, row + 0.5, f"{100 * value:.0f}", ha="center", va="center",
                      weight="bold" if row == column else "normal")
        axes.set(xlabel="predicted", ylabel="true", xlim=(0, len(classes)), ylim=(len(classes), 0), aspect="equal")
        axes.set_xticks(np.arange(len(classes)) + 0.5, classes, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(np.arange(len(classes)) + 0.5, classes)
        axes.tick_params(length=0)
    return svg(f"Confusion matrix of {title} in % of the true class; the table beside it gives the counts")


class _Svg:
    """The text of a figure, once it is drawn."""

    text = ""

    def __call__(self, label: str) -> str:
        start = self.text.index("<svg ") + len("<svg ")
        head = f'<svg role="img" aria-label="{html.escape(label)}" '
        return (head + self.text[start:]).replace(INK, "currentColor")


@contextmanager
def drawing(width: float, height: float) -> Iterator[tuple[Figure, _Svg]]:
    """A transparent figure of so many inches, and a function that gives its SVG, with a label, after the block."""
    svg = _Svg()
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, svg
        file = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # no version, no time
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
        svg.text = file.getvalue()
