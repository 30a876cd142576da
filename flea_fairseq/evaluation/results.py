"""A run's folder -> what every system predicted for each tested utterance, checked against the folds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flea_fairseq.data.corpus import read_corpus
from flea_fairseq.data.files import read_json
from flea_fairseq.data.folds import check_fold
from flea_fairseq.data.manifest import name_problem, read_dictionary, utterance_id
from flea_fairseq.data.protocols import some
from flea_fairseq.errors import CorpusError, FormatError
from flea_fairseq.evaluation.metrics import count_pairs, scores
from flea_fairseq.evaluation.predictions import read_predictions
from flea_fairseq.evaluation.splits import read_split

UNSEEDED = "any"
AGAIN = "run the experiment again"


@dataclass(frozen=True)
class Fold:
    """The tested utterances of a fold. truth: (N,) class indices; parts: for each part whose scores are averaged (one
    if pooled) the indices of its utterances; split: hash of the fold's files."""

    name: str
    protocol: str
    transductive: bool
    split: str
    ids: tuple[str, ...]
    truth: np.ndarray
    parts: tuple[np.ndarray, ...]

    def mean(self, predicted: np.ndarray, n_classes: int) -> dict[str, float]:
        """UA and WA of predicted class indices (N,), each the mean over the parts."""
        made = [scores(count_pairs(self.truth[part], predicted[part], n_classes)) for part in self.parts]
        return {measure: float(np.mean([getattr(part, measure) for part in made])) for measure in ("ua", "wa")}

    def absent(self, classes: Sequence[str]) -> list[str]:
        """The classes that the truth of a part lacks: its UA is the mean over the others."""
        return [name for i, name in enumerate(classes) if not all((self.truth[part] == i).any() for part in self.parts)]


@dataclass(frozen=True)
class System:
    """facts: key, title, and what else run.json says; seeds: numbers, or "any"; predicted: a (seeds, N) array of class
    indices for each fold; confidence: the probabilities of these classes, alike, where they were read."""

    facts: dict[str, Any]
    seeds: tuple[int | str, ...]
    predicted: tuple[np.ndarray, ...]
    confidence: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Run:
    """The facts of run.json, and the folds they name."""

    folder: Path
    facts: dict[str, Any]
    classes: tuple[str, ...]
    folds: tuple[Fold, ...]


def read_run(folder: Path) -> Run:
    """Read run.json and the test splits of its folds. Raises CorpusError, FormatError."""
    folder = Path(folder)
    facts = read_json(folder / "run.json", ("name", "protocol", "seeds", "folds", "systems"), AGAIN)
    _check_facts(folder / "run.json", facts)
    keys = [system["key"] for system in facts["systems"]]
    if not keys or not facts["folds"] or (facts.get("reference") or keys[0]) not in keys:
        raise FormatError(
            f"{folder / 'run.json'}: systems {', '.join(keys) or 'none'}, folds {', '.join(facts['folds']) or 'none'}, "
            f"reference {facts.get('reference')}; expected one or more and a system of them; run the experiment again"
        )
    classes = tuple(read_dictionary(folder / "folds" / facts["folds"][0] / "dict.emo.txt"))
    speakers = read_corpus(folder / "corpus.tsv").speakers()
    folds = tuple(_read_fold(folder, name, facts["protocol"], classes, speakers) for name in facts["folds"])
    return Run(folder, facts, classes, folds)


def _check_facts(path: Path, facts: dict[str, Any]) -> None:
    """Raise FormatError where folds, seeds and systems are not lists of what they should be."""
    listed = {"folds": _is_name, "seeds": lambda seed: type(seed) is int and seed >= 0, "systems": _is_system}
    for key, right in listed.items():
        if not isinstance(facts[key], list) or not all(right(value) for value in facts[key]):
            raise FormatError(f"{path}: {key} is {str(facts[key])[:200]}, expected what flea run writes; {AGAIN}")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and "/" not in value and name_problem(value) is None


def _is_system(value: object) -> bool:
    return isinstance(value, dict) and _is_name(value.get("key")) and isinstance(value.get("seeded"), bool)


def read_system(run: Run, facts: dict[str, Any]) -> System:
    """Read a system's predictions of every fold and seed. Raises CorpusError unless they are of the test splits."""
    seeds = tuple(run.facts["seeds"]) if facts["seeded"] else (UNSEEDED,)
    said = [
        np.stack([_read_probabilities(run, fold, seed_folder(seed), facts["key"]) for seed in seeds])
        for fold in run.folds
    ]
    return System(facts, seeds, tuple(each.argmax(-1) for each in said), tuple(each.max(-1) for each in said))


def of_this_run(run: Path, facts: dict[str, Any], paths: Iterable[Path]) -> list[Path]:
    """Those that run.json lists, where it does: an earlier run may have left others."""
    listed = facts.get("analysed")
    return [path for path in paths if listed is None or path.relative_to(run).as_posix() in listed]


def seed_folder(seed: int | str) -> str:
    """The name of a seed's folder: seed1, or any."""
    return UNSEEDED if seed == UNSEEDED else f"seed{seed}"


def places(wanted: Sequence[str], among: Sequence[str]) -> list[int]:
    """Where each of the wanted utterances stands among others."""
    at = {id_: i for i, id_ in enumerate(among)}
    return [at[id_] for id_ in wanted]


def describe_difference(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """How utterances and their truth differ from those expected, naming a few; empty if they do not."""
    other = {id_ for id_ in found.keys() & expected.keys() if found[id_] != expected[id_]}
    kinds = {
        "lacks": expected.keys() - found.keys(),
        "has besides": found.keys() - expected.keys(),
        "has another truth for": other,
    }
    return "; ".join(f"{what} {some(sorted(ids), 3)}" for what, ids in kinds.items() if ids)


def _read_fold(folder: Path, name: str, protocol: str, classes: tuple[str, ...], speakers: dict[str, str]) -> Fold:
    path = folder / "folds" / name / "fold.json"
    facts = check_fold(path.parent)
    if facts["protocol"] != protocol:
        raise CorpusError(
            f"{path}: protocol {facts['protocol']!r}, but {folder / 'run.json'} says {protocol!r}; run flea folds again"
        )
    manifest, labels = read_split(path.with_name("test.tsv"), list(classes))
    ids = tuple(map(utterance_id, manifest.names))
    by_speaker = facts["score"] == "mean_of_speakers"
    if by_speaker and not speakers.keys() >= set(ids):
        raise CorpusError(f"{folder / 'corpus.tsv'}: lacks utterances of fold {name}; run flea folds again")
    groups = np.array([speakers[id_] if by_speaker else "" for id_ in ids])
    parts = tuple(np.flatnonzero(groups == group) for group in np.unique(groups))
    truth = np.array([classes.index(label) for label in labels])
    return Fold(name, protocol, facts["transductive"], facts["hash"], ids, truth, parts)


def _read_probabilities(run: Run, fold: Fold, seed: str, system: str) -> np.ndarray:
    """What was predicted, in the order of the fold's utterances: (N, C)."""
    path = run.folder / "results" / fold.name / seed / system / "predictions.tsv"
    predictions = read_predictions(path)
    if predictions.classes != run.classes:
        raise CorpusError(
            f"{path}: classes {', '.join(predictions.classes)}, expected {', '.join(run.classes)} in order; "
            "run flea evaluate again"
        )
    truth = dict(zip(fold.ids, (run.classes[i] for i in fold.truth)))
    if different := describe_difference(dict(zip(predictions.ids, predictions.truth)), truth):
        raise CorpusError(f"{path}: not the fold's test.tsv with its labels: {different}; run flea evaluate again")
    return predictions.probabilities[places(fold.ids, predictions.ids)]
