"""experiment.yaml: what is run, on which corpus, under which protocol. Unknown keys and wrong types are refused."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Dict, List, cast, get_origin

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flea_fairseq.data.files import read_text
from flea_fairseq.data.plain_yaml import parse_yaml
from flea_fairseq.data.protocols import PROTOCOLS
from flea_fairseq.errors import ExperimentError
from flea_fairseq.models.fetch import SOURCES
from flea_fairseq.workflow.settings import checked_settings

SYSTEMS = (
    "baseline",
    "tapt",
    "flea",
    "flea_targets",
    "v_ft",
    "w2v_tapt",
    "p_tapt",
    "shift",
    "superb",
    "attentive_statistics",
)
WAV2VEC_SYSTEMS = ("v_ft", "w2v_tapt", "p_tapt")
FILES = ("manifest", "config_dir")  # paths relative to the file that names them
WEIGHTS = (("encoder",), ("wav2vec",), ("first_units", "kmeans"), ("p_tapt", "wav2vec_v1"))  # these too, or names
DEPTH = 8  # files that a file may stand on, one on the other


@dataclass
class FirstUnits:
    """The labels of phase 1a: MFCC clusters for a model from scratch, or a model's layer and its k-means model."""

    clusters: int = 50  # of MFCC frames
    layer: int = 9  # of `encoder`, with `kmeans`
    kmeans: str = ""  # k-means model for that layer: a file, or a name that `flea fetch` knows


@dataclass
class PTapt:
    """The labels of P-TAPT: several K at once."""

    clusters: List[int] = field(default_factory=lambda: [8, 64, 512, 4096])
    wav2vec_v1: str = ""  # wav2vec (v1) fine-tuned for emotions, whose frames are clustered
    layer: int = 0  # without it, this layer of phase 1b's model (0: the examined one)


@dataclass
class Cell:
    """One layer and K; where the experiment has no such one, its first."""

    layer: int = 0
    clusters: int = 0


@dataclass
class Experiment:
    """One experiment. Paths in the file are relative to the file; one value stands for a list of one."""

    name: str = MISSING
    manifest: str = MISSING  # script: corpus root -> corpus.tsv
    manifest_options: List[str] = field(default_factory=list)
    spans: str = ""  # RTTM with known emotional spans, relative to the corpus root
    config_dir: str = MISSING  # folder of pretrain.yaml, finetune.yaml, wav2vec_pretrain.yaml and system/
    protocol: str = "inner"
    n_folds: int = 5  # only for corpora without sessions
    split_seed: int = 1  # the same
    transductive: bool = False
    folds: List[str] = field(default_factory=list)  # names; empty: all
    seeds: List[int] = field(default_factory=lambda: [1])
    threads: int = 1  # CPU threads a step
    systems: List[str] = field(default_factory=lambda: ["baseline", "tapt", "flea"])  # the rows of the table
    encoder: str = ""  # pretrained encoder: a file, a folder, or a name that `flea fetch` knows; empty: from scratch
    wav2vec: str = ""  # pretrained wav2vec 2.0, for the systems of Chen and Rudnicky
    first_units: FirstUnits = field(default_factory=FirstUnits)
    layers: List[int] = MISSING  # whose frames are clustered in phase 1c
    clusters: List[int] = MISSING  # K of phase 1c; after flea_targets, criterion.consistency takes those of the first
    # of phase 3; another name stands for the model.pooling, and whatever else, of pooling/<name>.yaml in config_dir, or
    # of settings.flea_<name>
    poolings: List[str] = field(default_factory=lambda: ["mean", "attention"])
    examined: Cell = field(default_factory=Cell)  # which the report looks into
    projected_frames: int = 2000  # of its projections, which take a time of their own
    p_tapt: PTapt = field(default_factory=PTapt)
    max_frames: int = 0  # k-means is fitted on so many frames at most (0: as many as take 2 GiB)
    cnn_cache: bool = True  # keep the frozen CNN's output in OUTPUT/cnn_cache, for all fine-tunings that can use it
    settings: Dict[str, Dict[str, Any]] = field(default_factory=dict)  # base config, family or model: key -> value


def read_experiment(path: str | Path, changes: Sequence[str] = ()) -> Experiment:
    """Read an experiment.yaml; changes: `key=value`, with dots for nested keys. Raises ExperimentError.

    `base: other.yaml` in a file takes everything from there that the file does not say itself.
    """
    path = Path(path)
    values = _with_bases(path, DEPTH)
    for change in changes:
        _change(values, change)
    _refuse_interpolation(values, path)
    settings = values.pop("settings", {})
    _plain_values(Experiment, values)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Experiment), OmegaConf.create(values))
        experiment = cast(Experiment, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        where = f"{error.full_key}: " if getattr(error, "full_key", None) else ""
        raise ExperimentError(f"{path}: {where}{str(error).splitlines()[0]}") from error
    for name in FILES:
        setattr(experiment, name, str(Path(getattr(experiment, name)).resolve()))  # --set gives them as they are
        if not os.path.exists(getattr(experiment, name)):  # Path's own raises for a name that is too long
            raise ExperimentError(f"{path}: {name} is {getattr(experiment, name)}, which does not exist")
    _check_numbers(experiment, path)
    _check_choices(experiment, path)
    experiment.settings = checked_settings(settings, Path(experiment.config_dir), path, experiment.poolings)
    for name, known in (("layer", experiment.layers), ("clusters", experiment.clusters)):
        if getattr(experiment.examined, name) not in known:
            setattr(experiment.examined, name, known[0])
    experiment.p_tapt.layer = experiment.p_tapt.layer or experiment.examined.layer
    return experiment


def _with_bases(path: Path, depth: int) -> dict[str, Any]:
    """A file's values over those of its `base`; paths are resolved against the file that names them."""
    try:
        values = parse_yaml(read_text(path))
    except OSError as error:
        raise ExperimentError(
            f"{path}: no such file ({error.strerror}); examples/demo/experiment.yaml is one to start from"
        ) from error
    except ValueError as error:
        raise ExperimentError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ExperimentError(f"{path}: expected keys and values, found {type(values).__name__}")
    for *parents, name in [(name,) for name in FILES] + list(WEIGHTS):
        holder = values.get(parents[0]) if parents else values
        if isinstance(holder, dict) and isinstance(holder.get(name), str) and holder[name] not in ("", *SOURCES):
            if not holder[name].isprintable():  # a zero byte would end in an error of the system's
                raise ExperimentError(f"{path}: {name} is {holder[name]!r}, expected a path")
            holder[name] = str((path.parent / holder[name]).resolve())
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str) or depth == 0:
        raise ExperimentError(f"{path}: base is {base!r}, expected the name of a file that does not lead back here")
    try:
        below = _with_bases(path.parent / base, depth - 1)
    except ExperimentError as error:
        raise ExperimentError(f"{path}: base: {error}") from None
    return _merged(below, values)


def _merged(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Values over a base, key by key where both are mappings."""
    both = {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in values.items()
    }
    return {**base, **both}


def _plain_values(of: type, values: dict[str, Any]) -> None:
    """One value stands for a list of one, and nothing for an empty text; in nested settings too."""
    for item in fields(of):
        value = values.get(item.name)
        if isinstance(item.type, type) and is_dataclass(item.type) and isinstance(value, dict):
            _plain_values(item.type, value)
        elif item.name in values and get_origin(item.type) in (list, List) and not isinstance(value, list):
            values[item.name] = [value]
        elif item.name in values and item.type is str and value is None:
            values[item.name] = ""


def _change(values: dict[str, Any], change: str) -> None:
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
        values[last] = parse_yaml(text)
    except ValueError as error:
        raise ExperimentError(f"--set {change!r}: the value is not YAML: {error}") from error


def _check_numbers(experiment: Experiment, path: Path) -> None:
    least = {"layers": 1, "clusters": 1, "seeds": 0, "threads": 1, "n_folds": 2, "split_seed": 0, "max_frames": 0,
             "projected_frames": 10}  # fmt: skip
    for name, smallest in least.items():
        value = getattr(experiment, name)
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            if number < smallest:
                raise ExperimentError(f"{path}: {name} is {value}, expected {smallest} or more")
        if len(set(numbers)) < len(numbers) or not numbers:
            raise ExperimentError(f"{path}: {name} is {value}, expected one or more, each once")
    ks = experiment.p_tapt.clusters
    if not ks or min(ks) < 1 or len(set(ks)) < len(ks):
        raise ExperimentError(f"{path}: p_tapt.clusters is {ks}, expected 1 or more, each once")
    for where, layer in (("p_tapt", experiment.p_tapt.layer), ("first_units", experiment.first_units.layer)):
        if layer < (where == "first_units"):
            raise ExperimentError(f"{path}: {where}.layer is {layer}, expected 1 or more")


def _check_choices(experiment: Experiment, path: Path) -> None:
    if experiment.protocol not in PROTOCOLS:
        raise ExperimentError(f"{path}: protocol is {experiment.protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    for system in experiment.systems:
        if system not in SYSTEMS:
            raise ExperimentError(f"{path}: systems: {system!r} is unknown, expected some of {', '.join(SYSTEMS)}")
        if system == "flea_targets" and len(experiment.clusters) < 2:
            raise ExperimentError(
                f"{path}: system flea_targets predicts the clusters of several K at once, but clusters is "
                f"{experiment.clusters}; give two or more"
            )
        if system in WAV2VEC_SYSTEMS and not experiment.wav2vec:
            raise ExperimentError(f"{path}: system {system} starts from wav2vec 2.0; name it: wav2vec: wav2vec2-base")
    for name in ("systems", "poolings", "folds"):
        chosen = getattr(experiment, name)
        if len(set(chosen)) < len(chosen) or (not chosen and name != "folds"):
            raise ExperimentError(f"{path}: {name} is {chosen}, expected one or more, each once")
    for pooling in experiment.poolings:
        if not re.fullmatch(r"[a-z_]+", pooling):
            raise ExperimentError(f"{path}: poolings: {pooling!r} is no pooling's name")


def _refuse_interpolation(value: Any, path: Path) -> None:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_interpolation(item, path)
    if isinstance(value, str) and "${" in value:
        raise ExperimentError(f"{path}: {value!r}: interpolations are not read in an experiment file")
