"""How well does each system of a run know *when* an emotion is heard? Every frame against known spans.

    python examples/frames/score.py work/frames/emodb work/joins --split valid --output valid.json

RUN is the folder of a `flea run`; JOINS has a folder `<fold>/<split>` (joins.py) for each fold, of `train` as well,
from which the probes and the classifier on the joint alone learn; nothing else ever sees a joint in training.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from decoding import Decoding, decodings
from listeners import AVERAGE, Heard, Listener, classifier, clusters, fitted_regression, probe, sliding
from reading import WIDTHS, Reading, auc, averaged, reading
from recordings import Recording, read_recordings
from tqdm import tqdm

from flea_fairseq.data.audio import SAMPLE_RATE
from flea_fairseq.data.files import read_json, write_text
from flea_fairseq.data.manifest import read_dictionary
from flea_fairseq.data.prepare import run
from flea_fairseq.errors import ExperimentError
from flea_fairseq.evaluation.score_frames import NEUTRAL, log_rms

AROUND = 0.025  # seconds on either side of a joint: the cross-fade, all that its classifier hears
SLIDING = (0.5, 1.0, 2.0)  # seconds of a window
LATE = 1.0  # seconds of context that a model which was trained with all of it is given
PROBED = (AVERAGE, "local_mean")  # the poolings whose encoders an oracle is fitted on


@dataclass(frozen=True)
class Row:
    """What a system is worth on one recording.

    readings: of its frames, at several widths; decodings: of its segments, at several prices; side: whether it told
    which part is emotional. Empty, or None, where a system has none.
    """

    system: str
    fold: str
    seed: int
    recording: str
    parts: tuple[str, str]
    speaker: str
    frames: int
    left_out: int
    readings: Sequence[Reading] = ()
    decodings: Sequence[Decoding] = ()
    side: bool | None = None


def row(system: str, fold: str, seed: int, recording: Recording, **measures: Any) -> Row:
    """A row, None for what was not measured."""
    kept = recording.kept
    facts = recording.id, recording.parts, recording.speaker, int(kept.sum()), int((~kept).sum())
    return Row(system, fold, seed, *facts, **measures)


def score(system: str, fold: str, seed: int, recording: Recording, heard: Heard, classes: Sequence[str]) -> Row:
    """Compare what was heard with what is known."""
    return row(
        system, fold, seed, recording,
        readings=[reading(recording, heard, classes, width) for width in WIDTHS],
        decodings=decodings(recording, heard.posteriors, classes),
    )  # fmt: skip


def energy(recording: Recording, fold: str) -> Row:
    """The AUC of loudness, averaged like all else."""
    level = log_rms(recording.samples)
    readings = [Reading(width, auc=auc(recording, averaged(level, width))) for width in WIDTHS]
    return row("energy", fold, 0, recording, readings=readings)


def uniform(recording: Recording, fold: str) -> Row:
    """The AUC of weights that are all alike, as average pooling has them."""
    alike = auc(recording, np.ones(len(recording.truth)))
    return row("uniform", fold, 0, recording, readings=[Reading(width, attention_auc=alike) for width in WIDTHS])


def joint_alone(train: Sequence[Recording], test: Sequence[Recording], fold: str) -> list[Row]:
    """Which side is emotional, by the cross-fade's spectrum and the seconds on both sides."""
    known, asked = [[one for one in part if one.kind == NEUTRAL] for part in (train, test)]
    x, y = np.stack([_about_joint(one) for one in known]), np.array([one.truth[0] == NEUTRAL for one in known])
    said = fitted_regression(x, y).predict(np.stack([_about_joint(one) for one in asked]))
    return [
        row("joint alone", fold, 0, one, side=bool(guess == (one.truth[0] == NEUTRAL)))
        for one, guess in zip(asked, said)
    ]


def _about_joint(recording: Recording) -> np.ndarray:
    """Log power of 16 bands in the cross-fade, and the seconds before and after it."""
    middle, half = round(recording.joint * SAMPLE_RATE), round(AROUND * SAMPLE_RATE)
    spectrum = np.abs(np.fft.rfft(recording.samples[middle - half : middle + half])) ** 2
    bands = [np.log(band.mean() + 1e-9) for band in np.array_split(spectrum[1:], 16)]
    return np.array([*bands, recording.joint, len(recording.samples) / SAMPLE_RATE - recording.joint])


def listeners(
    root: Path, fold: str, seed: int, systems: Sequence[dict[str, Any]], train: Sequence[Recording],
    classes: Sequence[str],
) -> dict[str, Callable[[], Listener]]:  # fmt: skip
    """What makes each: the systems of a run, rows of its run.json; sliding windows and clusters of the one that has
    average pooling; probes of it and of the one named `local_mean`."""
    paths = {row["key"]: model_path(root, fold, seed, row["key"]) for row in systems}
    found: dict[str, Callable[[], Listener]] = {name: partial(classifier, path) for name, path in paths.items()}
    known = [(one.samples, one.truth) for one in train]
    for row in systems:
        if row.get("pooling") == AVERAGE:
            name = row["key"]
            for seconds in SLIDING:
                found[f"{name}, sliding {seconds:g} s"] = partial(sliding, paths[name], seconds)
            if "clusters" in row:  # phase 2 had one label set
                layer, k = row["layer"], row["clusters"]
                kmeans = root / f"units/{fold}/seed{seed}/tapt/l{layer}/km{k}.npz"
                found[f"clusters, layer {layer}, K {k}"] = partial(
                    clusters, kmeans, model_path(root, fold, seed, "tapt"), root / f"folds/{fold}", classes
                )
            found[f"{name}, {LATE:g} s in sight when heard"] = partial(classifier, paths[name], LATE)
        if row.get("pooling") in PROBED:
            found[f"probe of {row['key']}"] = partial(probe, paths[row["key"]], known, seed)
    return found


class Run(NamedTuple):
    """What a `flea run` made: systems are rows of its run.json, of those that have a classifier."""

    folds: list[str]
    seeds: list[int]
    systems: list[dict[str, Any]]


def read_run(root: Path) -> Run:
    """Of the folder of a run. Raises FormatError."""
    facts = read_json(root / "run.json", ("seeds", "systems", "models", "folds"), "give the folder of a `flea run`")
    return Run(facts["folds"], facts["seeds"], [row for row in facts["systems"] if row["key"] in facts["models"]])


def model_path(root: Path, fold: str, seed: int, system: str) -> Path:
    """Where a run keeps a model."""
    return root / f"models/{fold}/seed{seed}/{system}/model.pt"


def score_run(root: Path, joins: Path, split: str, only: Sequence[str] = ()) -> list[Row]:
    """All systems, folds and seeds of a run on the recordings of a split; only: some of them. Raises ExperimentError
    for a name that is none."""
    folds, seeds, systems = read_run(root)
    rows = []
    for fold in folds:
        classes = read_dictionary(root / f"folds/{fold}/dict.emo.txt")
        recordings, train = read_recordings(joins / fold / split), read_recordings(joins / fold / "train")
        for seed in seeds:
            found = listeners(root, fold, seed, systems, train, classes)
            if lost := [name for name in only if name not in found]:
                raise ExperimentError(f"--only {lost[0]}: not a system of {root}; there are {', '.join(found)}")
            for name in only or found:
                listen = found[name]()
                for one in tqdm(recordings, desc=f"{fold} {seed} {name}", leave=False, disable=None):
                    rows.append(score(name, fold, seed, one, listen(one.samples), classes))
        rows += [of(one, fold) for of in (energy, uniform) for one in recordings]
        rows += joint_alone(train, recordings, fold)
    return rows


def write_rows(output: Path, rows: Sequence[Row], made_of: str = "") -> None:
    """A row a line, in JSON; made_of: says what they were made of."""
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    write_text(output, f'{{"made_of": {json.dumps(made_of)}, "rows": [\n{lines}\n]}}\n')


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
