"""Changes to the base configs: what an experiment file may change, and how a change is given to `flea train`."""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from flea_fairseq.errors import ExperimentError
from flea_fairseq.ranges import CONSISTENCY, RANGES, check_range
from flea_fairseq.workflow.training_config import checked, read_flat

BASE_CONFIG = {  # what settings can be given for -> the base config that they change
    "pretrain": "pretrain",
    "finetune": "finetune",
    "wav2vec_pretrain": "wav2vec_pretrain",
    "tapt_pretrain": "pretrain",  # phase 1a
    "tapt": "finetune",  # 1b
    "align": "pretrain",  # 2, all cells
    "flea": "finetune",  # 3, all cells; criterion.consistency stands here or in flea_<pooling> alone
    "chen_rudnicky": "finetune",  # the classifiers of the next five
    "v_ft": "finetune",
    "w2v_tapt_pretrain": "wav2vec_pretrain",
    "w2v_tapt": "finetune",
    "p_tapt_pretrain": "pretrain",
    "p_tapt": "finetune",
    "shift": "finetune",
    "superb": "finetune",
    "attentive_statistics": "finetune",
}

OF_POOLING = "flea_"  # and a name among `poolings`: phase 3 with that pooling, or with what the settings make of it

Settings = dict[str, dict[str, Any]]


def overrides(settings: Settings, groups: Sequence[str], system: Path | None = None) -> list[str]:
    """The changes to a model's base config, as `key=value`; a later group wins over the ones before it.

    system: a file of system/. What it says itself is a paper's setting, which the first group, that of the base
    config, does not change; the groups after it, which name the system or the model, do.
    """
    own = read_flat(system) if system else {}
    first, *rest = groups
    merged = {key: value for key, value in settings.get(first, {}).items() if key not in own}
    for group in rest:
        merged.update(settings.get(group, {}))
    return [override(key, value) for key, value in merged.items()]


def override(key: str, value: Any) -> str:
    """`key=value` as `flea train` takes it: the value as YAML, quoted where it could be read as anything else."""
    value = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    return f"{key}={yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=float('inf'))[1:-2]}"


def checked_settings(settings: Any, config_dir: Path, path: Path, poolings: Sequence[str]) -> Settings:
    """Settings with what `pooling/<name>.yaml` beside the base configs says of a pooling; the experiment's word wins.

    Refuses before anything runs what hydra would refuse hours later: keys that the base config does not have.
    """
    known_groups = {**BASE_CONFIG, **{OF_POOLING + name: "finetune" for name in poolings}}
    if not isinstance(settings, dict) or not all(isinstance(part, dict) for part in settings.values()):
        raise ExperimentError(f"{path}: settings must hold {', '.join(known_groups)}, each with keys and values")
    settings = _with_pooling_files(settings, config_dir, poolings)
    # what makes a pooling of its own may lie idle, so that `--set poolings=[...]` chooses among them
    made = [name for name, part in settings.items() if _is_of_pooling(name) and "model.pooling" in part]
    known_groups |= dict.fromkeys(made, "finetune")
    for group, part in settings.items():
        if group not in known_groups:
            raise ExperimentError(f"{path}: settings.{group} is unknown; expected one of {', '.join(known_groups)}")
        if CONSISTENCY in part and group != "flea" and not group.startswith(OF_POOLING):
            raise ExperimentError(
                f"{path}: settings.{group}.{CONSISTENCY}: only phase 3 has clusters of frames; set it in "
                "settings.flea or settings.flea_<pooling>"
            )
        base = config_dir / f"{known_groups[group]}.yaml"
        known = read_flat(base) if base.is_file() else {}
        for key, value in part.items():
            _check_key(f"{path}: settings.{group}", key, value, known, base)
    return settings


def pooling_files(config_dir: Path) -> dict[str, Path]:
    """The files beside the base configs that say what a name among the poolings stands for, by that name."""
    return {path.stem: path for path in sorted((config_dir / "pooling").glob("*.yaml"))}


def _with_pooling_files(settings: Settings, config_dir: Path, poolings: Sequence[str]) -> Settings:
    groups = [*(OF_POOLING + name for name in poolings), *filter(_is_of_pooling, settings)]
    files = {OF_POOLING + name: path for name, path in pooling_files(config_dir).items()}
    made = {group: read_flat(files[group]) for group in groups if group in files}
    return {**settings, **{group: {**values, **settings.get(group, {})} for group, values in made.items()}}


def _is_of_pooling(group: Any) -> bool:
    return isinstance(group, str) and group.startswith(OF_POOLING)


def _check_key(where: str, key: Any, value: Any, known: dict[str, Any], base: Path) -> None:
    if isinstance(value, dict) or any(name.startswith(f"{key}.") for name in known):
        raise ExperimentError(f"{where}.{key} is {value!r}: give one value for each key, with dots between the words")
    if key == "optimizer.adam_betas":
        _check_betas(f"{where}.{key}", value)
    value = checked(f"{where}.{key}", key, value)
    if key not in known:
        raise ExperimentError(f"{where}.{key}: {base} has no such key; list it there if fairseq knows it")
    if key in RANGES:
        check_range(key, value, f"{where}.{key}")


def _check_betas(where: str, value: Any) -> None:
    """Two numbers, said now and not when the optimiser is made."""
    try:
        first, second = ast.literal_eval(value) if isinstance(value, str) else value
        float(first), float(second)
    except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError):
        raise ExperimentError(f"{where} is {value!r}, expected two numbers such as [0.9, 0.98]") from None
