"""What a run will cost, before it starts: how often each step runs, and GPU-hours of its trainings."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from flea_fairseq.data.audio import SAMPLE_RATE
from flea_fairseq.data.manifest import read_manifest
from flea_fairseq.workflow.method import Method
from flea_fairseq.workflow.settings import read_flat

# HuBERT-base: "training for 100k steps takes about 9.5 hours" at 87.5 s of audio a GPU (Hsu et al. 2021, section IV-C).
GPU_SECONDS = 9.5 * 3600 / 100_000 / 87.5  # for a second of audio, forward, backward and update
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
    own_shape = [n for n, v in values.items() if any(v.get(key, size) != size for key, size in BASE_SHAPE.items())]
    if own_shape:
        lines.append(f"GPU-hours are not estimated: {own_shape[0]} has another shape than HuBERT-base")
        return "\n".join(lines)
    seconds = sum(count * audio_seconds(values[model], folds / fold) for (fold, model), count in trainings.items())
    lines.append(
        f"about {seconds * GPU_SECONDS / 3600:.0f} GPU-hours for {sum(trainings.values())} trainings on "
        f"{seconds / 3600:.0f} h of audio, all passes counted ({1000 * GPU_SECONDS:.1f} ms of a GPU for a second of "
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
    """The values of a training's config under dotted keys: base, system, then its own settings."""
    model = method.models[name]
    values: dict[str, Any] = {}
    for name in (model.config, *([f"system/{model.system}"] if model.system else [])):
        values.update(read_flat(config_dir / f"{name}.yaml"))
    for setting in model.settings:
        key, _, text = setting.partition("=")
        values[key] = yaml.safe_load(text)
    return values


def audio_seconds(values: dict[str, Any], fold: Path) -> float:
    """Seconds of audio that a training passes through the model, by its config and the fold's manifest."""
    split = values["dataset.train_subset"]
    durations = [frames / SAMPLE_RATE for frames in read_manifest(fold / f"{split}.tsv").frames]
    longest = values.get("task.max_seconds") or (values.get("task.max_sample_size") or 0) / SAMPLE_RATE
    epoch = sum(min(seconds, longest) if longest else seconds for seconds in durations)
    if not values["optimization.max_update"]:
        return values["optimization.max_epoch"] * epoch
    if values.get("dataset.batch_size"):
        batch = values["dataset.batch_size"] * epoch / len(durations)
    else:
        batch = values["dataset.max_tokens"] / SAMPLE_RATE
    return values["optimization.max_update"] * values["optimization.update_freq"][0] * batch
