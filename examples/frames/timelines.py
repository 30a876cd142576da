"""Five recordings of a split, each with the truth above what systems say of its frames.

    python examples/frames/timelines.py work/run/models/03-08/seed1 work/joins/03-08/test timelines.png \
        --system flea_l3_k50_attention --system flea_l3_k50_local_mean
"""

import io
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from listeners import Heard, classifier
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from reading import smoothed
from recordings import Recording, read_recordings

from flea_fairseq.data.files import write_bytes
from flea_fairseq.data.prepare import run
from flea_fairseq.drawing import COLOURS
from flea_fairseq.inference.recognizer import FRAME_SECONDS
from flea_fairseq.models.checkpoints import load_classifier

RECORDINGS = 5
WIDTH = 0.5  # seconds over which frames are averaged


def draw(models: Path, systems: Sequence[str], folder: Path, output: Path) -> None:
    """Write a PNG. Recordings are taken at equal distances in the list of those that are half neutral."""
    recordings = [one for one in read_recordings(folder) if one.kind == "neutral"]
    chosen = [recordings[i] for i in np.linspace(0, len(recordings) - 1, RECORDINGS).astype(int)]
    classes = load_classifier(models / systems[0] / "model.pt").classes
    listeners = [classifier(models / name / "model.pt") for name in systems]
    rows_of_one = 2 + len(systems)  # the last is room for the axis of time and the next name
    heights = [0.35, *[1.0] * len(systems), 0.5]
    figure = Figure(figsize=(11, 0.8 * sum(heights) * RECORDINGS), dpi=100)
    rows = figure.subplots(
        RECORDINGS * rows_of_one, 1, gridspec_kw={"height_ratios": heights * RECORDINGS, "hspace": 0.25}
    )
    for i, recording in enumerate(chosen):
        truth, *others, room = rows[i * rows_of_one : (i + 1) * rows_of_one]
        draw_truth(truth, recording, classes)
        for axes, name, listen in zip(others, systems, listeners):
            draw_heard(axes, name, listen(recording.samples), recording)
        for axes in (truth, *others):
            axes.tick_params(labelbottom=axes is others[-1], labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
        room.set_axis_off()
    rows[-2].set_xlabel("seconds", fontsize=8)
    handles = [Patch(color=COLOURS[i], label=name) for i, name in enumerate(classes)]
    figure.legend(handles=handles, loc="upper center", ncols=len(classes), frameon=False, fontsize=9)
    figure.subplots_adjust(left=0.13, right=0.99, top=0.965, bottom=0.01)
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    write_bytes(output, image.getvalue())


def draw_truth(axes: Axes, recording: Recording, classes: Sequence[str]) -> None:
    """A bar of the known emotions."""
    seconds = len(recording.truth) * FRAME_SECONDS
    for start, end, emotion in (
        (0.0, recording.joint, recording.truth[0]),
        (recording.joint, seconds, recording.truth[-1]),
    ):
        axes.barh(0, end - start, left=start, height=1, color=COLOURS[classes.index(emotion)])
    axes.set(xlim=(0, seconds), ylim=(-0.5, 0.5), yticks=[])
    axes.set_ylabel("truth", rotation=0, ha="right", va="center", fontsize=8)
    axes.set_title(recording.id, fontsize=8, loc="left", pad=2)


def draw_heard(axes: Axes, name: str, heard: Heard, recording: Recording) -> None:
    """The probabilities of each frame, stacked, and the attention as a line, a share of its highest value."""
    times = (np.arange(len(heard.posteriors)) + 0.5) * FRAME_SECONDS
    axes.stackplot(times, smoothed(heard.posteriors, WIDTH).T, colors=COLOURS, linewidth=0)
    if heard.attention is not None:
        axes.plot(times, heard.attention / heard.attention.max(), color="black", linewidth=1)
    axes.axvline(recording.joint, color="white", linestyle="--", linewidth=1)
    axes.set(xlim=(0, len(heard.posteriors) * FRAME_SECONDS), ylim=(0, 1), yticks=[])
    axes.set_ylabel(name.split("_", 3)[-1].replace("_", " "), rotation=0, ha="right", va="center", fontsize=8)


@click.command(epilog="Example: python examples/frames/timelines.py run/models/03-08/seed1 joins/03-08/test five.png")
@click.argument("models", type=click.Path(path_type=Path))
@click.argument("joins", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--system", "systems", multiple=True, required=True, help="Which of the folder MODELS; several times.")
def main(models: Path, joins: Path, output: Path, systems: tuple[str, ...]) -> None:
    """Draw five recordings of the folder JOINS and what systems in the folder MODELS say of them."""
    draw(models, systems, joins, output)


if __name__ == "__main__":
    run(main)
