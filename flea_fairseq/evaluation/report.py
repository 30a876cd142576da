"""From every fold's and seed's predictions to results.json, one HTML page and a plain table."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flea_fairseq.data.files import replacing_files, write_text
from flea_fairseq.evaluation.analysis import read_analysis
from flea_fairseq.evaluation.estimates import estimates
from flea_fairseq.evaluation.frames import read_frames
from flea_fairseq.evaluation.metrics import calibration_error, count_pairs
from flea_fairseq.evaluation.render import page
from flea_fairseq.evaluation.results import Run, System, read_run, read_system
from flea_fairseq.evaluation.statistics import MEASURES
from flea_fairseq.evaluation.tables import table

KINDS = ("group", "layer", "clusters", "pooling")  # what a row repeats of its system, where the system has it


def report(run: Path) -> dict[str, Any]:
    """Read a run's folder; write results.json and report.html into it; return rows, frames and the printed table.

    `run.json` names the protocol, seeds, folds, systems in order, and the reference that others are compared with.
    Raises CorpusError, FormatError.
    """
    made = read_run(run)
    bar = tqdm(made.facts["systems"], desc="read predictions", unit="system", disable=None)
    systems = [read_system(made, facts) for facts in bar]
    rows = result_rows(made, systems)
    frames = read_frames(made)
    facts = {**made.facts, "transductive": any(fold.transductive for fold in made.folds)}
    confusions = {system.facts["key"]: confusion(made, system) for system in systems}
    analysis = read_analysis(made.folder, made.facts)
    shown = page(facts, rows, confusions, frames, made.classes, analysis)
    with replacing_files(made.folder) as temporary:
        write_text(temporary / "results.json", json.dumps(rows, indent=2) + "\n")
        write_text(temporary / "report.html", shown)
    return {"rows": rows, "frames": frames, "table": table(facts, rows, frames)}


def result_rows(run: Run, systems: Sequence[System]) -> list[dict[str, Any]]:
    """For each system a row a fold and seed, and last the row of their means, intervals and difference."""
    keys = [system.facts["key"] for system in systems]
    reference = keys.index(run.facts["reference"]) if run.facts.get("reference") else None
    rows = []
    for system, means in zip(systems, estimates(run.folds, systems, reference)):
        single = list(seed_rows(run, system))
        rows += [*single, mean_row(run, system, single, means)]
    return rows


def seed_rows(run: Run, system: System) -> list[dict[str, Any]]:
    """A row a fold and seed: UA, WA, the expected calibration error of the probabilities, and how many utterances.
    `absent`, where it is there, names the classes that the truth lacks."""
    rows = []
    for fold, predicted, confidence in zip(run.folds, system.predicted, system.confidence):
        absent = fold.absent(run.classes)
        for seed, labels, sure in zip(system.seeds, predicted, confidence):
            measured = {**fold.mean(labels, len(run.classes)), "ece": calibration_error(sure, labels == fold.truth)}
            values = {name: round(value, 6) for name, value in measured.items()}
            where = {"protocol": fold.protocol, "transductive": fold.transductive, "fold": fold.name, "seed": seed}
            row = {**_common(system), **where, **values, "n": len(fold.ids), "split": fold.split}
            rows.append({**row, "absent": absent} if absent else row)
    return rows


def mean_row(run: Run, system: System, single: Sequence[dict[str, Any]], means: dict[str, Any]) -> dict[str, Any]:
    """The means over folds and seeds with their deviation: over all of them, and of the seeds' means."""
    split = hashlib.sha256("\n".join(fold.split for fold in run.folds).encode()).hexdigest()
    row = {
        **_common(system),
        "protocol": run.facts["protocol"],
        "transductive": any(fold.transductive for fold in run.folds),
        "fold": "mean",
        "folds": len(run.folds),
        "seeds": list(system.seeds),
    }
    for measure in MEASURES:
        values = np.array([row[measure] for row in single]).reshape(len(run.folds), len(system.seeds))
        row[measure], row[f"{measure}_ci"] = means[measure], means[f"{measure}_ci"]
        row[f"{measure}_std"] = _deviation(values.ravel())
        row[f"{measure}_std_seeds"] = _deviation(values.mean(0))
    row["ece"] = round(float(np.mean([row["ece"] for row in single])), 6)
    if "difference" in means:
        row["difference"] = {"reference": run.facts["reference"], **means["difference"]}
    return {**row, "n": sum(len(fold.ids) for fold in run.folds), "split": split}


def confusion(run: Run, system: System) -> np.ndarray:
    """The confusion matrix of all folds and seeds together: (C, C)."""
    truth = np.concatenate([np.tile(fold.truth, len(system.seeds)) for fold in run.folds])
    return count_pairs(truth, np.concatenate([each.ravel() for each in system.predicted]), len(run.classes))


def _common(system: System) -> dict[str, Any]:
    facts = system.facts
    return {"system": facts["key"], "title": facts["title"], **{key: facts[key] for key in KINDS if key in facts}}


def _deviation(values: np.ndarray) -> float | None:
    return round(float(values.std(ddof=1)), 6) if len(values) > 1 else None
