"""`flea predict`: emotion and timeline of recordings, in the formats that other tools read."""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from flea_fairseq.data.files import hidden_folder, write_text
from flea_fairseq.errors import AudioError, ExperimentError, printable
from flea_fairseq.inference.formats import FORMATS, Format, to_json
from flea_fairseq.inference.recognizer import EmotionRecognizer, Prediction

SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".au", ".w64", ".caf"}
STDIN = "-"


class Recording(NamedTuple):
    """A file, and its name in what is written: without suffix, relative to the folder that was given, and printable."""

    path: Path
    name: str


def predict(
    recognizer: EmotionRecognizer,
    audio: Sequence[str],
    format: str = "json",
    output: Path | None = None,
    plots: Path | None = None,
    frames: bool = True,
) -> int:
    """Predict files, folders (all audio below them) and `-` (standard input), and return how many.

    output: a folder with a file for each recording; None: everything to standard output. plots: a folder for a PNG of
    each timeline; frames: whether JSON holds them. A recording that cannot be read is named on standard error, and the
    rest go on.
    Raises AudioError at the end where some could not be read, ExperimentError for arguments that do not fit.
    """
    chosen = FORMATS[format]
    if format == "json" and not frames:
        chosen = chosen._replace(render=partial(to_json, frames=False))
    with _recordings(audio) as recordings:
        if output is None and not chosen.joins and len(recordings) > 1:
            raise ExperimentError(f"--format {format} of {len(recordings)} recordings needs a folder: give --output")
        failed = 0
        for number, recording in enumerate(tqdm(recordings, desc="predict", unit="file", disable=None)):
            try:
                prediction = recognizer.predict_file(recording.path, recording.name)
            except AudioError as error:
                tqdm.write(printable(f"error: {error}"), file=sys.stderr)
                failed += 1
                continue
            _write(prediction, chosen, output, first=number == failed)
            if plots is not None:
                from flea_fairseq.inference.timeline import draw_timeline  # matplotlib: a second

                draw_timeline(prediction, plots / f"{recording.name}.png")
        if failed:
            raise AudioError(f"{failed} of {len(recordings)} recordings could not be predicted; they are named above")
        return len(recordings)


def find_recordings(audio: Sequence[str]) -> list[Recording]:
    """Files as they are named, and all audio files below folders, in order of their names.

    Raises AudioError for what is not there, a folder without audio, and two recordings of one name.
    """
    found: list[Recording] = []
    for argument in audio:
        path = Path(argument)
        if not path.is_dir():
            if not path.is_file():
                raise AudioError(f"{path}: no such file or folder")
            found.append(Recording(path, printable(path.stem)))
            continue
        inside = sorted(p for p in path.rglob("[!.]*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not inside:
            raise AudioError(f"{path}: no audio file in this folder ({', '.join(sorted(SUFFIXES))})")
        found += [Recording(p, printable(p.relative_to(path).as_posix().removesuffix(p.suffix))) for p in inside]
    seen: dict[str, Path] = {}
    for path, name in found:
        if name in seen:
            raise AudioError(f"{path}: has the name of {seen[name]}; predict them one after the other")
        seen[name] = path
    return found


@contextmanager
def _recordings(audio: Sequence[str]):
    """Every recording; standard input is kept in a temporary file while they are read."""
    files = find_recordings([argument for argument in audio if argument != STDIN])
    if STDIN not in audio:
        yield files
        return
    with hidden_folder(Path(tempfile.gettempdir()) / "flea.stdin") as folder:
        path = folder / "stdin"
        with open(path, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [*files, Recording(path, "stdin")]


def _write(prediction: Prediction, chosen: Format, output: Path | None, first: bool) -> None:
    if output is None:
        header = chosen.header(prediction) if first else ""
        tqdm.write(header + chosen.render(prediction), end="")
    else:
        write_text(output / f"{prediction.id}{chosen.suffix}", chosen.header(prediction) + chosen.render(prediction))
