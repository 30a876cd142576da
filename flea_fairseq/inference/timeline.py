"""A picture of a prediction: waveform, spectrogram, attention and the emotion of each frame, over time."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flea_fairseq.data.audio import SAMPLE_RATE
from flea_fairseq.data.files import write_bytes
from flea_fairseq.data.spans import one_line
from flea_fairseq.drawing import ACCENT, COLOURS, binned
from flea_fairseq.inference.recognizer import FRAME_SECONDS, Prediction

SIZE, DPI = (11.0, 6.4), 110
LEFT, RIGHT = 0.09, 0.985  # of the picture, where time begins and ends
ROWS = {"waveform": (0.77, 0.13), "spectrogram": (0.59, 0.16), "attention": (0.44, 0.13), "frames": (0.22, 0.20),
        "segments": (0.13, 0.06)}  # fmt: skip
COLUMNS = 2000  # drawn at most
STYLE: Any = {"text.parse_math": False, "font.family": "sans-serif", "font.size": 9}
EXPLAINED = (
    "Attention: which frames the classifier used; that is no proof of emotion there. Frames: the classifier's "
    "probabilities for each frame alone. Segments: the likeliest course of emotions."
)


@dataclass(frozen=True)
class Picture:
    """pixels: (height, width, 4) uint8; left, right: the columns at which the recording begins and ends."""

    pixels: np.ndarray
    left: float
    right: float
    seconds: float

    def second(self, column: float) -> float:
        """The time at a column of pixels, within the recording."""
        share = (column - self.left) / (self.right - self.left)
        return float(np.clip(share, 0, 1)) * self.seconds


def draw_timeline(prediction: Prediction, path: Path) -> None:
    """Write the picture as a PNG."""
    figure = timeline_figure(prediction)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DPI, metadata={"Software": None})
    write_bytes(path, image.getvalue())


def render_timeline(prediction: Prediction) -> Picture:
    """The same picture as pixels, with the place of the time axis."""
    canvas = FigureCanvasAgg(timeline_figure(prediction))
    canvas.figure.set_dpi(DPI)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba()).copy()
    return Picture(pixels, LEFT * pixels.shape[1], RIGHT * pixels.shape[1], prediction.seconds)


def timeline_figure(prediction: Prediction) -> Figure:
    """The figure, with one time axis for all rows."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE)
        axes = {name: figure.add_axes((LEFT, low, RIGHT - LEFT, high)) for name, (low, high) in ROWS.items()}
        _waveform(axes["waveform"], prediction)
        _spectrogram(axes["spectrogram"], prediction)
        _attention(axes["attention"], prediction)
        _frames(axes["frames"], prediction)
        _segments(axes["segments"], prediction)
        for name, each in axes.items():
            each.set_xlim(0, prediction.seconds)
            each.spines[["top", "right"]].set_visible(False)
            each.tick_params(labelbottom=name == "segments")
        axes["segments"].set_xlabel("seconds", labelpad=1)
        percents = "   ".join(f"{_line(name)} {100 * p:.0f} %" for name, p in _ordered(prediction))
        figure.text(LEFT, 0.955, _line(prediction.id) or "recording", fontsize=13, weight="bold")
        figure.text(LEFT, 0.925, f"whole recording: {percents}", fontsize=10)
        figure.text(LEFT, 0.015, EXPLAINED, fontsize=8, color="0.35")
        return figure


def _ordered(prediction: Prediction) -> list[tuple[str, float]]:
    pairs = zip(prediction.classes, prediction.probabilities.tolist())
    return sorted(pairs, key=lambda pair: -pair[1])


def _line(text: str, most: int = 80) -> str:
    """A name from elsewhere in one line, its end if it is long."""
    text = one_line(text)
    return text if len(text) <= most else f"...{text[-most:]}"


def _waveform(axes: Axes, prediction: Prediction) -> None:
    low, high = binned(prediction.overview.low, COLUMNS, np.min), binned(prediction.overview.high, COLUMNS, np.max)
    axes.fill_between(_times(prediction, len(low)), low, high, color="0.35", linewidth=0)
    peak = max(np.abs([*low, *high]).max(), 1e-3)
    axes.set(ylabel="waveform", ylim=(-1.05 * peak, 1.05 * peak), yticks=[])


def _spectrogram(axes: Axes, prediction: Prediction) -> None:
    decibels = 10 * np.log10(prediction.overview.spectrum.T + 1e-10)
    top = decibels.max()
    extent = (0, prediction.seconds, 0, SAMPLE_RATE / 2000)
    axes.imshow(decibels, origin="lower", aspect="auto", cmap="Greys", extent=extent, vmin=top - 70, vmax=top)
    axes.set(ylabel="kHz", yticks=[0, 4, 8])


def _attention(axes: Axes, prediction: Prediction) -> None:
    relative = binned(prediction.attention, COLUMNS, np.mean) * len(prediction.attention)
    axes.fill_between(_times(prediction, len(relative)), relative, color=ACCENT, alpha=0.35, linewidth=0)
    axes.plot(_times(prediction, len(relative)), relative, color=ACCENT, linewidth=1)
    axes.axhline(1, color="0.3", linestyle="--", linewidth=0.8)
    axes.set(ylabel="attention\n(1: uniform)", ylim=(0, max(2.0, 1.1 * relative.max())))


def _frames(axes: Axes, prediction: Prediction) -> None:
    """The probabilities of each frame, stacked; nothing where a pause was not heard."""
    shares = np.stack([binned(column, COLUMNS, np.mean) for column in np.nan_to_num(prediction.posteriors.T)])
    axes.stackplot(
        _times(prediction, shares.shape[1]),
        shares,
        colors=_colours(prediction),
        labels=[_line(name) for name in prediction.classes],
        linewidth=0,
    )
    axes.set(ylabel="frames" if prediction.weighted else "windows", ylim=(0, 1), yticks=[0, 0.5, 1])
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.62), ncols=len(prediction.classes), frameon=False, fontsize=9,
                borderaxespad=0, handlelength=1, columnspacing=1.4)  # fmt: skip


def _segments(axes: Axes, prediction: Prediction) -> None:
    colours = dict(zip(prediction.classes, _colours(prediction)))
    for segment in prediction.segments:
        length = segment.end - segment.start
        axes.barh(
            0, length, left=segment.start, height=1, color=colours[segment.emotion], edgecolor="white", linewidth=0.5
        )
        if length > prediction.seconds * 0.012 * (len(segment.emotion) + 1):
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": "white", "fontsize": 8}
            axes.text(segment.start + length / 2, 0, _line(segment.emotion), **style)
    axes.set(ylim=(-0.5, 0.5), yticks=[])
    axes.set_ylabel("segments", rotation=0, ha="right", va="center", labelpad=4)


def _colours(prediction: Prediction) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(prediction.classes))]


def _times(prediction: Prediction, columns: int) -> np.ndarray:
    """The second in the middle of each column."""
    frames = len(prediction.attention)
    return (np.arange(columns) + 0.5) * frames * FRAME_SECONDS / columns + FRAME_SECONDS / 4
