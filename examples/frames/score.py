"""How well does each system of a run know *when* an emotion is heard? Every frame against known spans.

    python examples/frames/score.py work/frames/emodb work/frames/emodb/joins --split valid --output valid.json
    python examples/frames/score.py work/frames/emodb work/frames/emodb/joins --split test --output test.json

RUN is the folder of a `flea run`; JOINS has a folder `<fold>/<split>` (joins.py) for each fold, of `train` as well,
from which the oracle and the classifier on the joint alone learn; nothing else ever sees a joint in training.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from joins import HEADER, NEUTRAL
from listeners import Heard, Listener, classifier, clusters, fitted_regression, oracle, sliding
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from flea_fairseq.data.audio import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, frame_count, read_audio
from flea_fairseq.data.files import read_json, write_text
from flea_fairseq.data.manifest import read_dictionary, read_lines
from flea_fairseq.data.prepare import run
from flea_fairseq.data.spans import Span, read_rttm
from flea_fairseq.errors import CorpusError
from flea_fairseq.evaluation.diarisation import diarisation_errors
from flea_fairseq.evaluation.metrics import confusion_matrix
from flea_fairseq.evaluation.score_frames import frame_truth, log_rms, true_segments
from flea_fairseq.inference.recognizer import FRAME_SECONDS
from flea_fairseq.models.checkpoints import load_classifier

NEAR = 0.1  # seconds from a joint, where a frame hears both sides: left out, and counted
SMOOTH = 25  # frames (half a second) over which every system's logarithms are averaged, to be compared alike
AROUND = 0.025  # seconds on either side of a joint, that is the cross-fade, all that its classifier hears of the sound
SLIDING = (0.5, 1.0, 2.0)  # seconds of a window
LATE = 1.0  # seconds of context that a model which was trained with all of it is given


@dataclass(frozen=True)
class Recording:
    """truth: the emotion of each frame; joint: seconds."""

    id: str
    speaker: str
    kind: str
    samples: np.ndarray
    truth: list[str]
    joint: float

    @property
    def kept(self) -> np.ndarray:
        """Which frames are far enough from the joint."""
        centres = (np.arange(len(self.truth)) * HOP_SAMPLES + FRAME_SAMPLES / 2) / SAMPLE_RATE
        return np.abs(centres - self.joint) > NEAR


@dataclass(frozen=True)
class Row:
    """What a system is worth on one recording; None where a measure has no meaning.

    auc: of 1 - P(neutral), attention_auc: of the attention, both for emotional against neutral frames; confusion:
    (C, C) frames; edge: milliseconds from the joint to the nearest change of the segments; eder: diarisation errors.
    """

    system: str
    fold: str
    seed: int
    recording: str
    speaker: str
    kind: str
    auc: float | None
    attention_auc: float | None
    confusion: list[list[int]] | None
    edge: float | None
    eder: float | None
    frames: int
    left_out: int


def read_recordings(folder: Path) -> list[Recording]:
    """What joins.py wrote."""
    lines = read_lines(folder / "joins.tsv")
    if lines[0].split("\t") != list(HEADER):
        raise CorpusError(f"{folder / 'joins.tsv'}:1: {lines[0]!r}, expected the header of joins.py")
    spans, recordings = read_rttm(folder / "spans.rttm"), []
    for name, speaker, _, _, joint, kind in (line.split("\t") for line in lines[1:]):
        samples = read_audio(folder / f"{name}.wav")
        truth = frame_truth(spans[name], frame_count(len(samples)))
        recordings.append(Recording(name, speaker, kind, samples, truth, float(joint)))
    return recordings


def averaged(values: np.ndarray) -> np.ndarray:
    """The mean over half a second around each frame: (T,) -> (T,)."""
    counts = np.convolve(np.ones(len(values)), np.ones(SMOOTH))[SMOOTH // 2 :][: len(values)]
    return np.convolve(values, np.ones(SMOOTH))[SMOOTH // 2 :][: len(values)] / counts


def smoothed(posteriors: np.ndarray) -> np.ndarray:
    """The mean logarithm over half a second around each frame, as probabilities again: (T, C) -> (T, C)."""
    means = np.stack([averaged(column) for column in np.log(np.maximum(posteriors, 1e-12)).T], 1)
    powers = np.exp(means - means.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def auc(recording: Recording, values: np.ndarray | None) -> float | None:
    """The area under the ROC curve of values (T,) for emotional frames; None where not both kinds are in it."""
    emotional = np.array(recording.truth)[recording.kept] != NEUTRAL
    if recording.kind != NEUTRAL or values is None or emotional.all() or not emotional.any():
        return None
    return float(roc_auc_score(emotional, values[recording.kept]))


def row(system: str, fold: str, seed: int, recording: Recording, **measures: Any) -> Row:
    """A row, None for what was not measured."""
    kept = recording.kept
    values = dict.fromkeys(("auc", "attention_auc", "confusion", "edge", "eder")) | measures
    facts = recording.id, recording.speaker, recording.kind
    return Row(system, fold, seed, *facts, **values, frames=int(kept.sum()), left_out=int((~kept).sum()))


def score(system: str, fold: str, seed: int, recording: Recording, heard: Heard, classes: Sequence[str]) -> Row:
    """Compare what was heard with what is known."""
    kept, posteriors = recording.kept, smoothed(heard.posteriors)
    truth = [name for name, far in zip(recording.truth, kept) if far]
    likeliest = [classes[i] for i in posteriors[kept].argmax(1)]
    changes = [segment.start for segment in heard.segments[1:]]
    known, duration = true_segments(recording.truth, FRAME_SECONDS), len(recording.truth) * FRAME_SECONDS
    said = [Span(*segment[:3]) for segment in heard.segments]
    return row(
        system, fold, seed, recording,
        auc=auc(recording, 1 - posteriors[:, list(classes).index(NEUTRAL)]),
        attention_auc=auc(recording, heard.attention),
        confusion=confusion_matrix(truth, likeliest, list(classes)).tolist(),
        edge=1000 * min(abs(change - recording.joint) for change in changes) if changes else None,
        eder=diarisation_errors(known, said, duration, NEUTRAL).rate,
    )  # fmt: skip


def energy(recording: Recording, fold: str) -> Row:
    """The AUC of loudness, averaged over half a second like all else."""
    return row("energy", fold, 0, recording, auc=auc(recording, averaged(log_rms(recording.samples))))


def joint_alone(train: Sequence[Recording], test: Sequence[Recording], fold: str) -> list[Row]:
    """Which side is emotional, by the cross-fade's spectrum and the seconds on both sides: right (1) or wrong (0)."""
    known, asked = [[one for one in part if one.kind == NEUTRAL] for part in (train, test)]
    x, y = np.stack([_about_joint(one) for one in known]), np.array([one.truth[0] == NEUTRAL for one in known])
    said = fitted_regression(x, y).predict(np.stack([_about_joint(one) for one in asked]))
    right = [float(guess == (one.truth[0] == NEUTRAL)) for one, guess in zip(asked, said)]
    return [row("joint alone", fold, 0, one, auc=value) for one, value in zip(asked, right)]


def _about_joint(recording: Recording) -> np.ndarray:
    """Log power of 16 bands in the cross-fade, and the seconds before and after it."""
    middle, half = round(recording.joint * SAMPLE_RATE), round(AROUND * SAMPLE_RATE)
    spectrum = np.abs(np.fft.rfft(recording.samples[middle - half : middle + half])) ** 2
    bands = [np.log(band.mean() + 1e-9) for band in np.array_split(spectrum[1:], 16)]
    return np.array([*bands, recording.joint, len(recording.samples) / SAMPLE_RATE - recording.joint])


def listeners(
    root: Path, fold: str, seed: int, systems: Sequence[str], train: Sequence[Recording], classes: Sequence[str]
) -> dict[str, Listener]:
    """Every system of a run; on the encoder of average pooling a sliding classifier; clusters; oracles."""
    models = root / f"models/{fold}/seed{seed}"
    found = {name: classifier(models / name / "model.pt") for name in systems}
    average = next((name for name in systems if name.endswith("_mean")), None)
    if average is not None:
        layer, k = (part[1:] for part in average.split("_")[1:3])
        for seconds in SLIDING:
            found[f"sliding {seconds:g} s"] = sliding(models / average / "model.pt", seconds)
        kmeans = root / f"units/{fold}/seed{seed}/tapt/l{layer}/km{k}.npz"
        found["clusters"] = clusters(kmeans, models / "tapt/model.pt", root / f"folds/{fold}", classes)
        found[f"{average}, {LATE:g} s of context when heard"] = classifier(models / average / "model.pt", LATE)
    known, loaded = [(one.samples, one.truth) for one in train], {}
    for name in systems:
        model = load_classifier(models / name / "model.pt")
        loaded.setdefault(model.context, (name, model))  # the first of each context
    for name, model in loaded.values():
        found[f"oracle on {name}"] = oracle(model, known, seed)
    return found


def score_run(root: Path, joins: Path, split: str, only: Sequence[str]) -> list[Row]:
    """All systems, folds and seeds of a run on the recordings of a split."""
    facts = read_json(root / "run.json", ("experiment", "systems"), "give the folder of a `flea run`")
    experiment, rows = facts["experiment"], []
    systems = [row["key"] for row in facts["systems"] if row["key"] in facts["models"]]
    systems = [name for name in systems if not only or name in only]
    for fold in experiment["folds"]:
        classes = read_dictionary(root / f"folds/{fold}/dict.emo.txt")
        recordings, train = read_recordings(joins / fold / split), read_recordings(joins / fold / "train")
        rows += [energy(one, fold) for one in recordings] + joint_alone(train, recordings, fold)
        for seed in experiment["seeds"]:
            for name, listen in listeners(root, fold, seed, systems, train, classes).items():
                for one in tqdm(recordings, desc=f"{fold} {seed} {name}", leave=False, disable=None):
                    rows.append(score(name, fold, seed, one, listen(one.samples), classes))
    return rows


def write_rows(output: Path, rows: Sequence[Row]) -> None:
    """A row a line, as a JSON list."""
    write_text(output, "[\n" + ",\n".join(json.dumps(asdict(row)) for row in rows) + "\n]\n")


@click.command(epilog="Example: python examples/frames/score.py work/run work/joins --split valid --output valid.json")
@click.argument("root", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("joins", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["valid", "test"]), required=True, help="Whose joins are scored.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON: a row a system and recording.")
@click.option("--only", multiple=True, help="Score this system alone; may be given several times.")
def main(root: Path, joins: Path, split: str, output: Path, only: tuple[str, ...]) -> None:
    """Score the systems of RUN (a folder of `flea run`) on the recordings in JOINS, frame by frame."""
    rows = score_run(root, joins, split, only)
    write_rows(output, rows)
    print(f"{len(rows)} rows -> {output}")


if __name__ == "__main__":
    run(main)
