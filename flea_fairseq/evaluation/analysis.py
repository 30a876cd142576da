"""What the report shows beside its scores: learning curves, clusters, projections and attention, from a run's folder.

Each part is None where the run has no files of it. Figures are SVG; the page is report_analysis.html.j2.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flea_fairseq.data.files import read_json
from flea_fairseq.data.manifest import read_dictionary
from flea_fairseq.evaluation.analysis_figures import (
    attention_figure,
    learning_figure,
    points_a_line,
    projection_figure,
)
from flea_fairseq.evaluation.curves import Curves, read_curves
from flea_fairseq.evaluation.results import AGAIN, UNSEEDED, of_this_run, seed_folder
from flea_fairseq.evaluation.score_units import MEASURES

EXAMPLES = 4  # utterances that attention helped, and as many that it hurt
UNITS_FILE = re.compile(r"(?P<source>.+?)(_l(?P<layer>\d+))?_km\d*")
UNITS_KEYS = ("clusters", "used", "perplexity", "emotion", "speaker")
PROJECTION_KEYS = ("layer", "emotions", "utterances", "before", "after", "knn_chance", "silhouette_chance")
ATTENTION_KEYS = ("utterances", "mended", "broken", "examples")


def read_analysis(run: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The parts `learning`, `clusters`, `projection` and `attention` of a run whose run.json says `facts`.

    Raises FormatError for a file that lacks what its step writes.
    """
    run = Path(run)
    parts: dict[str, Any] = {"learning": learning(run, facts)}
    for make, pattern, keys in (
        (clusters, "units/*.json", UNITS_KEYS),
        (projection, "projection.json", PROJECTION_KEYS),
        (attention, "attention.json", ATTENTION_KEYS),
    ):
        found = _read_all(run, facts, pattern, keys)
        parts[make.__name__] = make(found) if found else None
    return parts


def learning(run: Path, facts: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The models that were trained without, and with, validation, each with its curves and where they ended."""
    curves: dict[str, list[Curves]] = {}
    for name in tqdm(_models(run, facts), desc="learning curves", unit="model", disable=None):
        logs = [run / "models" / fold / seed / name / "run/train.log" for fold, seed in _places(facts)]
        read = [curve for curve in map(read_curves, filter(Path.is_file, logs)) if curve.loss]
        if read:
            curves[name] = read
    if not curves:
        return None
    classes = read_dictionary(run / "folds" / facts["folds"][0] / "dict.emo.txt")
    points = points_a_line(sum(len(of) * (2 if of[0].ua else 1) for of in curves.values()))
    titles = {system["key"]: system["title"] for system in facts["systems"]}
    groups: dict[str, list[dict[str, Any]]] = {"Pretraining": [], "Classifiers": []}
    for name, of in curves.items():
        group = groups["Classifiers" if any(curve.ua for curve in of) else "Pretraining"]
        figure = learning_figure(name, of, 1 / len(classes), points)
        group.append({"title": titles.get(name, name), "figure": figure, **_ended(of)})
    return [{"title": title, "models": models} for title, models in groups.items() if models]


def _ended(curves: Sequence[Curves]) -> dict[str, Any]:
    """How a model's trainings ended: means over them, and the range of the epochs that were kept."""
    kept = [curve.kept for curve in curves if curve.kept]
    return {
        "trainings": len(curves),
        "updates": max(curve.loss[-1][0] for curve in curves),
        "loss": float(np.mean([curve.loss[-1][1] for curve in curves])),
        "ua": float(np.mean([ua for _, ua in kept])) if kept else None,
        "epochs": sorted({min(kept)[0], max(kept)[0]}) if kept else [],
    }


def clusters(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row each label set, by source, layer and K: means over folds and seeds."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for facts in found:
        by_name.setdefault(facts["name"], []).append(facts)
    rows = []
    for name, sets in by_name.items():
        parts = UNITS_FILE.fullmatch(name) or {"source": name, "layer": None}
        row = {"source": parts["source"], "layer": int(parts["layer"] or 0), "sets": len(sets)}
        row |= {key: _mean([of[key] for of in sets]) for key in ("clusters", "used", "perplexity")}
        for target in ("emotion", "speaker"):
            row[target] = {
                measure: {kind: _mean([of[target][measure][kind] for of in sets]) for kind in ("value", "chance")}
                for measure in MEASURES
            }
        rows.append(row)
    return sorted(rows, key=lambda row: (row["source"], row["layer"], row["clusters"]))


def projection(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of every fold and seed that has a projection, and the figure of the first."""
    return {"rows": found, "figure": projection_figure(found[0])}


def attention(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many utterances attention mended and broke in all, and those of the greatest change, with figures."""
    examples = [
        {**example, "fold": facts["fold"], "seed": facts["seed"]} for facts in found for example in facts["examples"]
    ]
    examples.sort(key=lambda example: -example["change"])
    helped = [example for example in examples if example["change"] > 0][:EXAMPLES]
    hurt = [example for example in examples[::-1] if example["change"] < 0][:EXAMPLES]
    sums = {key: sum(facts[key] for facts in found) for key in ("utterances", "mended", "broken")}
    return {
        **sums,
        "kinds": [
            {"title": title, "examples": [{**e, "figure": attention_figure(e)} for e in some]}
            for title, some in (("Helped most", helped), ("Hurt most", hurt))
            if some
        ],
    }


def _places(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The folders below models/ and results/: fold and seed."""
    for fold in facts["folds"]:
        for seed in (*facts["seeds"], UNSEEDED):
            yield fold, seed_folder(seed)


def _models(run: Path, facts: dict[str, Any]) -> list[str]:
    """The models that run.json names, else all that have a log."""
    return facts.get("models") or sorted({path.parents[1].name for path in run.glob("models/*/*/*/run/train.log")})


def _read_all(run: Path, facts: dict[str, Any], pattern: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The files of this name of every fold and seed that has them, with their fold, seed and name."""
    found = []
    for fold, seed in _places(facts):
        for path in of_this_run(run, facts, sorted((run / "results" / fold / seed).glob(pattern))):
            found.append({**read_json(path, keys, AGAIN), "fold": fold, "seed": seed, "name": path.stem})
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None
