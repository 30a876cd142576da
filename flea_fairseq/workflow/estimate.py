"""What a run will cost, before it starts: how often each step runs, and GPU-hours of its trainings."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flea_fairseq.data.audio import SAMPLE_RATE
from flea_fairseq.data.manifest import read_manifest
from flea_fairseq.workflow.classifier_config import check_classifier
from flea_fairseq.workflow.method import Method
from flea_fairseq.workflow.rates import read_rates
from flea_fairseq.workflow.training_config import merged

BASE_SHAPE = {"model.encoder_layers": 12, "model.encoder_embed_dim": 768}
ORDER = ("corpus", "folds", "cluster", "train", "evaluate", "baseline", "")  # the rest comes last
TRAINED = re.compile(r"^ +output: models/([\w-]+)/seed\d+/(\w+)/model\.pt\b", re.M)


def estimate(dry_run: str, method: Method, config_dir: Path, folds: Path) -> str:
    """A table of steps from Snakemake's dry run, and the GPU-hours of the trainings in it.

    dry_run: what `snakemake --dry-run` printed. Only trainings are counted, at the speed of HuBERT-base.
    """
    steps = step_counts(dry_run)
    width = max((len(name) for name in steps), default=0)
    lines = [f"{name.ljust(width)}  {count:6d}" for name, count in steps.items()]
    lines.append(f"{'steps'.ljust(width)}  {sum(steps.values()):6d}")
    trainings = Counter(TRAINED.findall(dry_run))
    if not trainings:
        return "\n".join(lines)
    values = {name: merged_config(method, name, config_dir) for name in {model for _, model in trainings}}
    own_shape = [name for name, config in values.items() if not is_base(config)]
    if own_shape:
        lines.append(f"GPU-hours are not estimated: {own_shape[0]} has another shape than HuBERT-base")
        return "\n".join(lines)
    seconds = sum(
        count * audio_seconds(values[model], durations(values[model], folds / fold))
        for (fold, model), count in trainings.items()
    )
    rate = read_rates("gpu")["train"].seconds
    lines.append(
        f"about {seconds * rate / 3600:.0f} GPU-hours for {sum(trainings.values())} trainings on "
        f"{seconds / 3600:.0f} h of audio, all passes counted ({1000 * rate:.1f} ms of a GPU for a second of "
        "audio, as HuBERT-base's authors had in 2021; today's GPUs need less)"
    )
    return "\n".join(lines)


def step_counts(dry_run: str) -> dict[str, int]:
    """Steps and how often they run, from the table that ends Snakemake's dry run; its own bookkeeping left out."""
    table = dry_run.rpartition("Job stats:")[2]
    rows = re.findall(r"^(\w+) +(\d+)$", table, re.M)
    counts = {name: int(count) for name, count in rows if name not in ("job", "total", "all", "prepare")}
    return dict(sorted(counts.items(), key=lambda item: next(i for i, s in enumerate(ORDER) if item[0].startswith(s))))


def merged_config(method: Method, name: str, config_dir: Path) -> dict[str, Any]:
    """The values of a training's config under dotted keys: base, system, then its own settings.

    Raises ExperimentError for what the training would refuse.
    """
    model = method.models[name]
    values = merged(config_dir, model.config, model.system, model.settings)
    check_classifier(name, values, bool(model.sets))
    return values


def is_base(values: dict[str, Any]) -> bool:
    """Whether a training's encoder has HuBERT-base's shape."""
    return all(values.get(key, size) == size for key, size in BASE_SHAPE.items())


def durations(values: dict[str, Any], fold: Path) -> list[float]:
    """Seconds of each recording that a training learns from."""
    manifest = read_manifest(fold / f"{values['dataset.train_subset']}.tsv")
    return [frames / SAMPLE_RATE for frames in manifest.frames]


def audio_seconds(values: dict[str, Any], durations: Sequence[float]) -> float:
    """Seconds of audio that a training passes through the model, by its config and its recordings' durations."""
    longest = values.get("task.max_seconds") or (values.get("task.max_sample_size") or 0) / SAMPLE_RATE
    epoch = sum(min(seconds, longest) if longest else seconds for seconds in durations)
    if not values["optimization.max_update"]:
        return values["optimization.max_epoch"] * epoch
    if values.get("dataset.batch_size"):
        batch = values["dataset.batch_size"] * epoch / len(durations)
    else:
        batch = values["dataset.max_tokens"] / SAMPLE_RATE
    return values["optimization.max_update"] * values["optimization.update_freq"][0] * batch
