"""`flea app`: a web page that hears a recording, shows its timeline, and plays a span that is clicked."""

import html
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
import numpy as np

from flea_fairseq.data.audio import SAMPLE_RATE, probe_audio
from flea_fairseq.data.files import write_text
from flea_fairseq.data.long_audio import LongAudio
from flea_fairseq.errors import AudioError, ExperimentError
from flea_fairseq.inference.formats import FORMATS
from flea_fairseq.inference.recognizer import EmotionRecognizer, Prediction
from flea_fairseq.inference.segments import Segment
from flea_fairseq.inference.timeline import EXPLAINED, Picture, render_timeline

MOST_MEGABYTES = 200
MOST_SECONDS = 3600.0
KEPT_SECONDS = 3600  # an upload and what was made of it are deleted after so long, and at the end
DOWNLOADS = ("json", "textgrid")
COLUMNS = ["start (s)", "end (s)", "emotion", "probability"]


def app(
    recognizer: EmotionRecognizer,
    host: str = "127.0.0.1",
    port: int = 7860,
    most_seconds: float = MOST_SECONDS,
    most_megabytes: int = MOST_MEGABYTES,
    block: bool = True,
) -> gr.Blocks:
    """Serve the page; files are taken up to a size and a duration, and never leave this machine.

    block: False gives the page back while it is served, to be closed by its `close()`.
    """
    page = build(recognizer, most_seconds, most_megabytes)
    how = {"max_file_size": f"{most_megabytes}mb", "share": False, "show_error": True, "footer_links": []}
    try:
        page.queue(default_concurrency_limit=1).launch(
            server_name=host, server_port=port, quiet=True, prevent_thread_lock=not block, **how
        )
    except OSError as error:
        raise ExperimentError(
            f"{host}:{port}: the page cannot be served there ({error}); name another --port"
        ) from None
    return page


def build(recognizer: EmotionRecognizer, most_seconds: float, most_megabytes: int) -> gr.Blocks:
    """The page, not yet served."""
    limits = f"WAV, FLAC, MP3 or OGG, up to {most_megabytes} MB and {most_seconds / 60:.0f} minutes."
    with gr.Blocks(title="flea: emotion over time", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        gr.Markdown(
            f"## Which emotion, and when\n{limits} Everything stays on this machine, and is deleted afterwards."
        )
        audio = gr.Audio(label="Record or drop a file", sources=["upload", "microphone"], type="filepath",
                         elem_id="audio", buttons=[])  # fmt: skip
        problem = gr.Markdown(elem_id="problem", visible=False)
        verdict = gr.Label(label="Whole recording", elem_id="verdict", visible=False)
        picture = gr.Image(show_label=False, interactive=False, elem_id="timeline",
                           visible=False, buttons=[])  # fmt: skip
        gr.Markdown(f"Click the timeline or a row to hear a segment. {EXPLAINED}")
        table = gr.Dataframe(headers=COLUMNS, label="Segments: click a row to hear it", interactive=False,
                             elem_id="segments", visible=False)  # fmt: skip
        heard = gr.Audio(
            label="Segment", autoplay=True, interactive=False, elem_id="span", visible=False, buttons=["download"]
        )
        with gr.Row():
            files = [
                gr.DownloadButton(f"Download {name}", elem_id=f"download-{name}", visible=False) for name in DOWNLOADS
            ]
        state = gr.State(None)
        shown = [problem, verdict, picture, table, heard, *files, state]
        downloads = TemporaryDirectory(prefix="flea-")  # deleted with the page
        audio.change(partial(show, recognizer, most_seconds, downloads), audio, shown)
        table.select(play_row, [audio, state], heard)
        picture.select(play_place, [audio, state], heard)
    return page


def show(
    recognizer: EmotionRecognizer, most_seconds: float, downloads: TemporaryDirectory[str], path: str | None
) -> list[Any]:
    """What the page shows of a file: a message, or the verdict, the timeline, the segments and the downloads."""
    if path is None:
        return _hidden()
    try:
        info = probe_audio(path)
        if (seconds := info.frames / info.sample_rate) > most_seconds:
            raise AudioError(f"{seconds / 60:.0f} minutes are more than {most_seconds / 60:.0f}; use flea predict")
        prediction = recognizer.predict_file(path)
    except AudioError as error:
        return _hidden(str(error).replace(path, Path(path).name))
    timeline = render_timeline(prediction)
    rows = [[f"{s.start:.2f}", f"{s.end:.2f}", s.emotion, f"{s.score:.2f}"] for s in prediction.segments]
    return [
        gr.update(visible=False),
        gr.update(value=dict(zip(prediction.classes, prediction.probabilities.tolist())), visible=True),
        gr.update(value=timeline.pixels[:, :, :3], visible=True),
        gr.update(value=rows, visible=True),
        gr.update(value=None, visible=False),
        *(gr.update(value=_write(prediction, name, Path(downloads.name)), visible=True) for name in DOWNLOADS),
        (prediction.segments, Picture(np.empty(0), timeline.left, timeline.right, timeline.seconds)),
    ]


def play_row(path: str, state: tuple[Any, ...], event: gr.SelectData) -> dict[str, Any]:
    """The segment of the row that was clicked, as sound."""
    return _sound(path, state[0][event.index[0]])


def play_place(path: str, state: tuple[Any, ...], event: gr.SelectData) -> dict[str, Any]:
    """The segment at the place of the picture that was clicked, if there is one."""
    segments, picture = state
    second = picture.second(event.index[0])
    found = next((s for s in segments if s.start <= second < s.end), None)
    return _sound(path, found) if found else gr.update(value=None, visible=False)


def _sound(path: str, segment: Segment) -> dict[str, Any]:
    audio = LongAudio(path)
    start, stop = (min(int(t * SAMPLE_RATE), audio.samples) for t in segment[:2])
    label = f"{segment.emotion}, {segment.start:.2f} to {segment.end:.2f} s"
    return gr.update(value=(SAMPLE_RATE, _pcm(audio.read(start, stop))), label=label, visible=True)


def _pcm(samples: np.ndarray) -> np.ndarray:
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16)


def _hidden(message: str = "") -> list[Any]:
    """A message, or nothing, and no result."""
    text = f"**This file cannot be used.** {html.escape(message)}" if message else ""
    return [
        gr.update(value=text, visible=bool(message)),
        *(gr.update(value=None, visible=False) for _ in range(6)),
        None,
    ]


def _write(prediction: Prediction, name: str, downloads: Path) -> str:
    """A file to download, of which Gradio keeps and deletes a copy; ours goes with the next."""
    chosen = FORMATS[name]
    path = downloads / f"timeline{chosen.suffix}"
    write_text(path, chosen.render(prediction))
    return str(path)
