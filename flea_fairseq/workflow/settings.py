"""Changes to the base configs: what an experiment file may change, and how a change is given to fairseq."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from flea_fairseq.errors import ExperimentError

BASE_CONFIG = {  # what settings can be given for -> the base config that they change
    "pretrain": "pretrain",
    "finetune": "finetune",
    "wav2vec_pretrain": "wav2vec_pretrain",
    "tapt_pretrain": "pretrain",  # phase 1a
    "tapt": "finetune",  # 1b
    "align": "pretrain",  # 2, all cells
    "flea": "finetune",  # 3, all cells
    "flea_mean": "finetune",
    "flea_attention": "finetune",
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

EVALUATED = {  # text under these keys is run by fairseq as Python, in one of its models, tasks or optimisers
    "adafactor_eps", "adam_betas", "adamax_betas", "lamb_betas", "conv_aggregator_layers", "conv_feature_layers",
    "feature_encoder_spec", "wer_args", "adaptive_input_cutoff", "adaptive_softmax_cutoff", "character_filters",
    "decoder_attention", "decoder_layers", "encoder_attention", "encoder_layers", "downsample", "gated_attention",
    "left_pad_source", "left_pad_target", "pretrained", "project_input", "self_attention", "xformers_att_config",
    "pipeline_balance", "pipeline_decoder_balance", "pipeline_decoder_devices", "pipeline_devices",
    "pipeline_encoder_balance", "pipeline_encoder_devices", "model_overrides",
}  # fmt: skip
PROGRAM = "post_save_script"  # fairseq-fixed starts this after each checkpoint
NUMBERS = (ast.Expression, ast.List, ast.Tuple, ast.Constant, ast.BinOp, ast.Add, ast.Mult, ast.UnaryOp, ast.USub,
           ast.Load)  # fmt: skip

Settings = dict[str, dict[str, Any]]


def overrides(settings: Settings, groups: Sequence[str], system: Path | None = None) -> list[str]:
    """The changes to a model's base config, as hydra overrides; a later group wins over the ones before it.

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
    """`key=value` in hydra's override grammar; text is quoted, so that no value can be read as anything else."""
    return f"{key}={_value(value)}"


def read_flat(path: Path) -> dict[str, Any]:
    """A config's values under dotted keys. Raises ExperimentError."""
    try:
        return _flat(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ExperimentError(f"{path}: cannot be read as a config ({' '.join(str(error).split())})") from None


def merged(config_dir: Path, config: str, system: str | None, changes: Sequence[str]) -> dict[str, Any]:
    """A training's values under dotted keys: the base config, the system's over it, then `key=value` overrides.

    Raises ExperimentError for a file that cannot be read, and for a text that would be run as Python.
    """
    values: dict[str, Any] = {}
    for name in (config, *([f"system/{system}"] if system else [])):
        values.update(read_flat(config_dir / f"{name}.yaml"))
    for change in changes:
        key, _, text = change.partition("=")
        values[key] = yaml.safe_load(text)
    for key, value in values.items():
        _check_evaluated(f"{config_dir / config}.yaml or a change to it: {key}", key, value)
    return values


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def check_settings(settings: Any, config_dir: Path, path: Path) -> None:
    """Refuse before anything runs what hydra would refuse hours later: keys that the base config does not have."""
    if not isinstance(settings, dict) or not all(isinstance(part, dict) for part in settings.values()):
        raise ExperimentError(f"{path}: settings must hold {', '.join(BASE_CONFIG)}, each with keys and values")
    for group, part in settings.items():
        if group not in BASE_CONFIG:
            raise ExperimentError(f"{path}: settings.{group} is unknown; expected one of {', '.join(BASE_CONFIG)}")
        base = config_dir / f"{BASE_CONFIG[group]}.yaml"
        known = yaml.safe_load(base.read_text(encoding="utf-8")) if base.is_file() else {}
        for key, value in part.items():
            _check_key(f"{path}: settings.{group}", key, value, known, base)


def _check_key(where: str, key: Any, value: Any, known: dict[str, Any], base: Path) -> None:
    if not all(word.isidentifier() for word in str(key).split(".")):
        raise ExperimentError(f"{where}: {key!r} is no key of a config")
    node: Any = known
    for word in str(key).split("."):
        if not isinstance(node, dict) or word not in node:
            raise ExperimentError(f"{where}.{key}: {base} has no such key; list it there if fairseq knows it")
        node = node[word]
    if isinstance(value, dict) or isinstance(node, dict):
        raise ExperimentError(f"{where}.{key} is {value!r}: give one value for each key, with dots between the words")
    if key == "optimizer.adam_betas":
        _check_betas(f"{where}.{key}", value)
    _check_evaluated(f"{where}.{key}", key, value)


def _check_evaluated(where: str, key: str, value: Any) -> None:
    """Of a text that fairseq evaluates, let only numbers in brackets reach it, with + and *; and no program."""
    name = key.rpartition(".")[2]
    if name == PROGRAM and value is not None:
        raise ExperimentError(f"{where} is {str(value)[:200]!r}: fairseq would start this as a program; leave it out")
    if name not in EVALUATED or not isinstance(value, str):
        return
    nodes: list[ast.AST | None]
    try:
        nodes = list(ast.walk(ast.parse(value, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        nodes = [None]
    if not all(isinstance(node, NUMBERS) for node in nodes):
        raise ExperimentError(
            f"{where} is {value[:200]!r}: fairseq runs this text as Python; only numbers in brackets may stand there, "
            "such as [0.9, 0.98] or [(512,10,5)] + [(512,3,2)] * 4"
        )


def _check_betas(where: str, value: Any) -> None:
    """Two numbers, said now and not when the optimiser is made."""
    try:
        first, second = ast.literal_eval(value) if isinstance(value, str) else value
        float(first), float(second)
    except (ValueError, TypeError, SyntaxError):
        raise ExperimentError(f"{where} is {value!r}, expected two numbers such as [0.9, 0.98]") from None


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
