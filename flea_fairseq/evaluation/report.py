"""From every fold's predictions to results.json, one HTML page and a plain table."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flea_fairseq.data.corpus import read_corpus
from flea_fairseq.data.files import write_text
from flea_fairseq.data.manifest import read_dictionary, utterance_id
from flea_fairseq.errors import CorpusError, FormatError
from flea_fairseq.evaluation.metrics import bootstrap, confusion_matrix, scores
from flea_fairseq.evaluation.predictions import Predictions, read_predictions
from flea_fairseq.evaluation.render import FRAME_MEASURES, page, table
from flea_fairseq.evaluation.splits import read_split


@dataclass(frozen=True)
class Score:
    """One system on one fold: a confusion matrix for each part whose scores are averaged (one part if pooled)."""

    fold: str
    split: str  # hash of the fold's files
    parts: tuple[np.ndarray, ...]

    @property
    def pooled(self) -> np.ndarray:
        """The confusion matrix of all test utterances: (C, C)."""
        return np.sum(self.parts, axis=0)

    def mean(self, measure: str) -> float:
        """Mean over the parts of "ua" or "wa"."""
        return float(np.mean([getattr(scores(part), measure) for part in self.parts]))

    def absent(self, classes: Sequence[str]) -> list[str]:
        """The classes that the truth of a part lacks: its UA is the mean over the others."""
        return [classes[i] for i in sorted({i for part in self.parts for i in scores(part).absent})]


def report(run: Path) -> dict:
    """Read a run's folder; write results.json and report.html into it; return rows, frames and the printed table.

    `run.json` names the protocol, the seed, the systems ({"key", "title"}, in order) and, if not all that have
    results, the folds. Raises CorpusError, FormatError.
    """
    run = Path(run)
    facts = read_json(run / "run.json", ("name", "protocol", "seed", "systems"))
    names = facts.get("folds") or sorted(path.name for path in (run / "results").glob("*") if path.is_dir())
    if not names:
        raise CorpusError(f"{run / 'results'}: holds no results of a fold; run the experiment first")
    classes = read_dictionary(run / "folds" / names[0] / "dict.emo.txt")
    speakers = {utterance.id: utterance.speaker for utterance in read_corpus(run / "corpus.tsv").utterances}
    folds = [read_fold(run, name, facts["protocol"]) for name in names]
    rows, pooled = [], {}
    for system in facts["systems"]:
        results = [read_score(run, fold, system["key"], classes, speakers) for fold in folds]
        rows += system_rows(system, results, facts, classes)
        pooled[system["key"]] = np.sum([score.pooled for score in results], axis=0)
    frames = read_frames(run, names)
    facts["transductive"] = any(fold["transductive"] for fold in folds)
    write_text(run / "results.json", json.dumps(rows, indent=2) + "\n")
    write_text(run / "report.html", page(facts, rows, pooled, frames, classes))
    return {"rows": rows, "frames": frames, "table": table(rows, frames)}


def read_json(path: Path, keys: Sequence[str]) -> dict:
    """Read a JSON object that must hold some keys. Raises FormatError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read as JSON ({error}); run the experiment again") from None
    missing = [key for key in keys if not isinstance(values, dict) or key not in values]
    if missing:
        raise FormatError(f"{path}: lacks {', '.join(missing)}; run the experiment again")
    return values


def read_fold(run: Path, name: str, protocol: str) -> dict:
    """Read a fold's facts. Raises CorpusError if it was made by another protocol than the run names."""
    path = run / "folds" / name / "fold.json"
    fold = read_json(path, ("fold", "protocol", "score", "transductive", "hash"))
    if fold["protocol"] != protocol:
        raise CorpusError(
            f"{path}: protocol {fold['protocol']!r}, but {run / 'run.json'} says {protocol!r}; run flea folds again"
        )
    return fold


def read_score(run: Path, fold: dict, system: str, classes: Sequence[str], speakers: dict[str, str]) -> Score:
    """Read a system's predictions of a fold. Raises CorpusError unless they are of exactly the fold's test split."""
    name = fold["fold"]
    path = run / "results" / name / system / "predictions.tsv"
    predictions = read_predictions(path)
    manifest, labels = read_split(run / "folds" / name / "test.tsv", list(classes))
    expected = dict(zip(map(utterance_id, manifest.names), labels))
    if predictions.classes != tuple(classes):
        raise CorpusError(f"{path}: classes {', '.join(predictions.classes)}, expected {', '.join(classes)} in order")
    if dict(zip(predictions.ids, predictions.truth)) != expected:
        raise CorpusError(
            f"{path}: {len(predictions.ids)} utterances that are not the {len(expected)} of the fold's "
            "test.tsv with its labels; run flea evaluate again"
        )
    by_speaker = fold["score"] == "mean_of_speakers"
    if by_speaker and not expected.keys() <= speakers.keys():
        raise CorpusError(f"{run / 'corpus.tsv'}: lacks utterances of fold {name}; run flea folds again")
    groups = [speakers[id_] if by_speaker else "" for id_ in predictions.ids]
    return Score(name, fold["hash"], tuple(_confusion(predictions, groups, group) for group in sorted(set(groups))))


def _confusion(predictions: Predictions, groups: Sequence[str], group: str) -> np.ndarray:
    pairs = [pair for pair, of in zip(zip(predictions.truth, predictions.predicted), groups) if of == group]
    return confusion_matrix(*zip(*pairs), predictions.classes)


def system_rows(system: dict, results: Sequence[Score], facts: dict, classes: Sequence[str]) -> list[dict]:
    """A row a fold, and last their mean: UA and WA averaged over folds, their deviation, and 95 % intervals.

    `absent`, where it is there, names the classes that the truth lacks.
    """
    common = {"system": system["key"], "title": system["title"], "protocol": facts["protocol"], "seed": facts["seed"]}
    rows = []
    for score in results:
        values = {measure: round(score.mean(measure), 6) for measure in ("ua", "wa")}
        absent = {"absent": score.absent(classes)} if score.absent(classes) else {}
        values["n"] = int(score.pooled.sum())
        rows.append({**common, "fold": score.fold, **values, "split": score.split, **absent})
    split = hashlib.sha256("\n".join(score.split for score in results).encode()).hexdigest()
    average = {**common, "fold": "mean", "folds": len(rows)}
    intervals = bootstrap([score.parts for score in results], facts["seed"])
    for measure, interval in zip(("ua", "wa"), intervals):
        values = [score.mean(measure) for score in results]
        average[measure] = round(float(np.mean(values)), 6)
        average[f"{measure}_std"] = round(float(np.std(values, ddof=1)), 6) if len(values) > 1 else None
        average[f"{measure}_ci"] = [round(edge, 6) for edge in interval]
    return [*rows, {**average, "n": sum(row["n"] for row in rows), "split": split}]


def read_frames(run: Path, names: Sequence[str]) -> list[dict]:
    """The frame-level scores of the folds that have them, each with its fold's name."""
    paths = [(name, run / "results" / name / "frames.json") for name in names]
    keys = [key for measure, (_, chance) in FRAME_MEASURES.items() for key in (measure, chance)]
    return [{"fold": name, **read_json(path, keys)} for name, path in paths if path.exists()]
