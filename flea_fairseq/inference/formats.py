"""A prediction as text that other tools read: JSON lines, CSV, RTTM, Praat's TextGrid, Audacity's labels."""

import csv
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from praatio.data_classes.interval_tier import IntervalTier
from praatio.data_classes.textgrid import Textgrid

from flea_fairseq.data.files import hidden_folder
from flea_fairseq.data.spans import EMOTIONS, Span, merged, one_line, rttm_line
from flea_fairseq.inference.recognizer import FRAME_SECONDS, Prediction

NOTE = (
    "attention says which frames the classifier used, which is no proof that they are emotional; probabilities of a "
    "frame are the classifier's head on this frame alone"
)


class Format(NamedTuple):
    """render: a prediction as text; several one after the other are a whole file where `joins`."""

    suffix: str
    render: Callable[[Prediction], str]
    joins: bool
    header: Callable[[Prediction], str] = lambda prediction: ""


def to_json(prediction: Prediction, frames: bool = True) -> str:
    """One line: the whole recording, its segments, and its frames; null where a pause was not heard."""
    facts: dict[str, Any] = {
        "id": prediction.id,
        "seconds": round(prediction.seconds, 4),
        "emotion": prediction.emotion,
        "probabilities": _by_class(prediction, prediction.probabilities),
        "segments": [{**s._asdict(), "score": round(s.score, 4)} for s in prediction.segments],
        "note": NOTE if prediction.weighted else "this pooling weighs no frames: theirs are the window's probabilities",
    }
    if frames:
        facts["frames"] = {
            "hop_seconds": FRAME_SECONDS,
            "attention": _numbers(prediction.attention, 8),
            "sound": prediction.sound.astype(int).tolist(),
            "probabilities": {
                name: _numbers(column, 4) for name, column in zip(prediction.classes, prediction.posteriors.T)
            },
        }
        if prediction.clusters is not None:
            facts["frames"]["clusters"] = [None if unit < 0 else unit for unit in prediction.clusters.tolist()]
    return json.dumps(facts, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(prediction: Prediction) -> str:
    """A line a frame; empty cells where a pause was not heard."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    clusters = prediction.clusters if prediction.clusters is not None else [""] * len(prediction.attention)
    for i, (weight, row, unit) in enumerate(zip(prediction.attention.tolist(), prediction.posteriors, clusters)):
        heard = not np.isnan(row[0])
        numbers = [f"{p:.4f}" if heard else "" for p in row]
        start = i * FRAME_SECONDS
        writer.writerow([prediction.id, f"{start:.2f}", f"{weight:.8f}", *numbers, unit if heard else ""])
    return text.getvalue()


def csv_header(prediction: Prediction) -> str:
    """The columns of `to_csv`; a class of the name of another column keeps its own place."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["id", "start", "attention", *prediction.classes, "cluster"])
    return text.getvalue()


def to_rttm(prediction: Prediction) -> str:
    """A line a segment."""
    return "".join(rttm_line(prediction.id, span) for span in spans(prediction))


def to_textgrid(prediction: Prediction) -> str:
    """Praat's long text format, with a tier `emotion` of the segments."""
    end = max(prediction.seconds, 1e-3)
    entries = [(span.start, min(span.end, end), one_line(span.emotion)) for span in spans(prediction)]
    grid = Textgrid(0, end)
    grid.addTier(IntervalTier(EMOTIONS, [entry for entry in entries if entry[1] > entry[0]], 0, end))
    with hidden_folder(Path(tempfile.gettempdir()) / "flea.TextGrid") as folder:  # praatio writes files only
        path = folder / "one.TextGrid"
        grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)
        return path.read_text(encoding="utf-8")


def to_audacity(prediction: Prediction) -> str:
    """Start, end and emotion with its score, parted by tabs: File > Import > Labels."""
    return "".join(f"{s.start:.6f}\t{s.end:.6f}\t{one_line(s.emotion)} {s.score:.2f}\n" for s in prediction.segments)


def spans(prediction: Prediction) -> list[Span]:
    """The segments without their scores, those of one emotion that touch as one."""
    return merged(Span(*segment[:3]) for segment in prediction.segments)


def _by_class(prediction: Prediction, values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in zip(prediction.classes, values)}


def _numbers(values: np.ndarray, digits: int) -> list[float | None]:
    return [None if value != value else round(value, digits) for value in values.astype(float).tolist()]


FORMATS = {
    "json": Format(".json", to_json, joins=True),
    "csv": Format(".csv", to_csv, joins=True, header=csv_header),
    "rttm": Format(".rttm", to_rttm, joins=True),
    "textgrid": Format(".TextGrid", to_textgrid, joins=False),
    "audacity": Format(".txt", to_audacity, joins=False),
}
