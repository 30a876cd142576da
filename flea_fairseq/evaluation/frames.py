"""The frame-level scores of a run's folds and seeds, where the corpus has known spans."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flea_fairseq.data.files import read_json
from flea_fairseq.evaluation.results import AGAIN, Run, of_this_run, seed_folder

FRAME_MEASURES = {
    "frame_ua": ("Frame UA of the cluster labels", "frame_chance"),
    "attention_auc": ("AUC of the attention weights", "auc_chance"),
    "energy_auc": ("AUC of the frame energy", "auc_chance"),
    "attention_inside": ("Share of the attention inside the spans", "inside_chance"),
    "posterior_ua": ("Frame UA of the classifier's frames", "frame_chance"),
    "eder": ("Emotion diarisation error rate (lower is better)", "eder_neutral"),
}


def read_frames(run: Run) -> list[dict[str, Any]]:
    """frames.json of the folds and seeds that have one, each with their names. Raises FormatError."""
    keys = ["frame_ua", "frame_chance", "attention_auc", "energy_auc", "auc_chance"]
    rows = []
    for fold in run.folds:
        for seed in run.facts["seeds"]:
            path = run.folder / "results" / fold.name / seed_folder(seed) / "frames.json"
            if path.exists() and of_this_run(run.folder, run.facts, [path]):
                rows.append({"fold": fold.name, "seed": seed, **read_json(path, keys, AGAIN)})
    return rows


def frame_rows(frames: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each measure its mean, lowest and highest value over folds and seeds, and what chance gives."""
    rows = []
    for measure, (title, chance) in FRAME_MEASURES.items():
        if frames and all(frame.get(measure) is not None for frame in frames):
            values = [frame[measure] for frame in frames]
            numbers = {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}
            rows.append({"title": title, **numbers, "chance": float(np.mean([frame[chance] for frame in frames]))})
    return rows
