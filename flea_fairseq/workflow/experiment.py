"""experiment.yaml: what is run, on which corpus, under which protocol. Unknown keys and wrong types are refused."""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flea_fairseq.data.protocols import PROTOCOLS
from flea_fairseq.errors import ExperimentError

PHASES = ("tapt_pretrain", "tapt_finetune", "align", "finetune")  # 1a, 1b, 2, 3
POOLINGS = {"flea_mean": "mean", "flea_attention": "attention"}
SYSTEMS = {
    "baseline": "logistic regression on log-mel",
    "tapt": "TAPT, average pooling",
    "flea_mean": "FLEA, average pooling",
    "flea_attention": "FLEA, attention pooling",
}


@dataclass
class FirstUnits:
    """The labels of phase 1a: MFCC clusters for a model from scratch, or a model's layer and its k-means model."""

    clusters: int = 50  # of MFCC frames
    layer: int = 9  # of `encoder`, with `kmeans`
    kmeans: str = ""  # k-means model for that layer: a file, or a name that `flea fetch` knows


@dataclass
class Experiment:
    """One experiment. Paths in the file are relative to the file."""

    name: str = MISSING
    manifest: str = MISSING  # script: corpus root -> corpus.tsv
    manifest_options: List[str] = field(default_factory=list)
    spans: str = ""  # RTTM with known emotional spans, relative to the corpus root
    config_dir: str = MISSING  # folder of pretrain.yaml and finetune.yaml
    protocol: str = "inner"
    n_folds: int = 5  # only for corpora without sessions
    transductive: bool = False
    folds: List[str] = field(default_factory=list)  # names; empty: all
    seed: int = 1
    threads: int = 1  # CPU threads a step
    encoder: str = ""  # pretrained encoder: a file, a folder, or a name that `flea fetch` knows; empty: from scratch
    first_units: FirstUnits = field(default_factory=FirstUnits)
    layer: int = MISSING  # whose frames are clustered in phase 1c
    clusters: int = MISSING  # K of phase 1c
    max_frames: int = 0  # k-means is fitted on so many frames at most (0: all)
    settings: Dict[str, Dict[str, Any]] = field(default_factory=dict)  # pretrain, finetune, or one phase: key -> value


def read_experiment(path: str | Path, changes: List[str] = ()) -> Experiment:
    """Read an experiment.yaml; changes: `key=value`, with dots for nested keys. Raises ExperimentError."""
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ExperimentError(f"{path}: no such file; examples/demo/experiment.yaml is one to start from") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ExperimentError(f"{path}: expected keys and values, found {type(values).__name__}")
    for change in changes:
        _change(values, change)
    _refuse_interpolation(values, path)
    settings = _check_settings(values.pop("settings", {}), path)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Experiment), OmegaConf.create(values))
        experiment = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
        raise ExperimentError(f"{path}: {where}{str(error).splitlines()[0]}") from error
    experiment.settings = settings
    for name in ("manifest", "config_dir"):
        setattr(experiment, name, str((path.parent / getattr(experiment, name)).resolve()))
    for name in ("manifest", "config_dir"):
        if not Path(getattr(experiment, name)).exists():
            raise ExperimentError(f"{path}: {name} is {getattr(experiment, name)}, which does not exist")
    _check_numbers(experiment, path)
    _check_keys(experiment, path)
    return experiment


def phase_settings(experiment: Experiment, phase: str) -> List[str]:
    """The changes to a phase's base config, as hydra overrides; a phase's own settings win over those of its kind."""
    kind = config_name(phase)
    merged = {**experiment.settings.get(kind, {}), **experiment.settings.get(phase, {})}
    merged["common.seed"] = experiment.seed
    return [override(key, value) for key, value in merged.items()]


def config_name(phase: str) -> str:
    """The base config of a phase."""
    return "pretrain" if phase in ("pretrain", "tapt_pretrain", "align") else "finetune"


def override(key: str, value: Any) -> str:
    """`key=value` in hydra's override grammar; text is quoted, so that no value can be read as anything else."""
    return f"{key}={_value(value)}"


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_value(item) for item in value)}]"
    if "${" in str(value):
        raise ExperimentError(f"{value!r}: interpolations are not read")
    # In hydra's quotes a backslash escapes only a quote, or backslashes in front of one.
    return "'" + re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), str(value)) + "'"


def _change(values: dict, change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ExperimentError(
            f"--set {change!r}: expected key=value, such as clusters=100 or settings.finetune.optimization.max_epoch=2"
        )
    *parents, last = key.split(".", 2) if key.startswith("settings.") else key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ExperimentError(f"--set {change!r}: {parent} has no keys")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ExperimentError(f"--set {change!r}: the value is not YAML: {' '.join(str(error).split())}") from error


def _check_settings(settings: Any, path: Path) -> Dict[str, Dict[str, Any]]:
    allowed = ("pretrain", *PHASES, *POOLINGS)
    if not isinstance(settings, dict) or not all(isinstance(part, dict) for part in settings.values()):
        raise ExperimentError(f"{path}: settings must hold {', '.join(allowed)}, each with keys and values")
    for name, part in settings.items():
        if name not in allowed:
            raise ExperimentError(f"{path}: settings.{name} is unknown; expected one of {', '.join(allowed)}")
        for key in part:
            if not all(word.isidentifier() for word in str(key).split(".")):
                raise ExperimentError(f"{path}: settings.{name}: {key!r} is no key of a config")
    return settings


def _check_numbers(experiment: Experiment, path: Path) -> None:
    least = {"layer": 1, "clusters": 1, "threads": 1, "n_folds": 2, "seed": 0, "max_frames": 0}
    for name, smallest in least.items():
        if getattr(experiment, name) < smallest:
            raise ExperimentError(f"{path}: {name} is {getattr(experiment, name)}, expected {smallest} or more")
    if experiment.protocol not in PROTOCOLS:
        raise ExperimentError(f"{path}: protocol is {experiment.protocol!r}, expected one of {', '.join(PROTOCOLS)}")


def _check_keys(experiment: Experiment, path: Path) -> None:
    """Refuse before anything runs what hydra would refuse hours later: keys that the base config does not have."""
    for phase, settings in experiment.settings.items():
        base = Path(experiment.config_dir) / f"{config_name(phase)}.yaml"
        known = yaml.safe_load(base.read_text(encoding="utf-8")) if base.is_file() else {}
        for key, value in settings.items():
            where = f"{path}: settings.{phase}.{key}"
            node: Any = known
            for word in str(key).split("."):
                if not isinstance(node, dict) or word not in node:
                    raise ExperimentError(f"{where}: {base} has no such key; list it there if fairseq knows it")
                node = node[word]
            if isinstance(value, dict) or isinstance(node, dict):
                raise ExperimentError(f"{where} is {value!r}: give one value for each key, with dots between the words")
            if key == "optimizer.adam_betas":
                _check_betas(where, value)


def _check_betas(where: str, value: Any) -> None:
    """fairseq evaluates a text given here; only two numbers may reach it."""
    try:
        first, second = ast.literal_eval(value) if isinstance(value, str) else value
        float(first), float(second)
    except (ValueError, TypeError, SyntaxError):
        raise ExperimentError(f"{where} is {value!r}, expected two numbers such as [0.9, 0.98]") from None


def _refuse_interpolation(value: Any, path: Path) -> None:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_interpolation(item, path)
    if isinstance(value, str) and "${" in value:
        raise ExperimentError(f"{path}: {value!r}: interpolations are not read in an experiment file")
