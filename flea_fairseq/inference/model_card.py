"""What an exported model says of itself: how it was made, how it scored, and what it must not be used for."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from flea_fairseq.evaluation.results import UNSEEDED
from flea_fairseq.models.flea_classifier import FleaClassifier

PADDING = (
    "a group-norm encoder (HuBERT-base) normalises over the whole input, so that zeros added to a shorter recording "
    "change its result: give recordings one by one, or batches of equal length"
)


def facts(model: FleaClassifier, checkpoint: Path) -> dict[str, Any]:
    """What the model file holds of itself, and the row of results.json where it stands in a run's folder."""
    row = result_row(checkpoint)
    return {**model.facts, "pooling": model.pooling_name, **({"test": row} if row else {})}


def result_row(checkpoint: Path) -> dict[str, Any] | None:
    """The row of a model of `flea run` (models/<fold>/<seed>/<system>/model.pt) in its results.json, if it is there."""
    parts = checkpoint.resolve().parts
    if len(parts) < 6 or parts[-5] != "models":
        return None
    fold, seed, system = parts[-4:-1]
    path = checkpoint.resolve().parents[4] / "results.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        wanted = seed if seed == UNSEEDED else int(seed.removeprefix("seed"))
        return next(r for r in rows if (r["system"], r["fold"], r.get("seed")) == (system, fold, wanted))
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None


def model_card(model: FleaClassifier, checkpoint: Path, own_code: str) -> str:
    """A Hugging Face README.md."""
    loader = PackageLoader("flea_fairseq.inference", "")
    made = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    known = facts(model, checkpoint)
    return made.get_template("model_card.md.j2").render(
        classes=model.classes,
        known=known,
        padding=PADDING,
        own_code=own_code if known["pooling"] == "attention" else "",
        temperature=model.temperature,
        normalize=model.normalize,
    )
