"""The config of one training: read as data, checked, and written whole into a folder in which nothing else lies.

hydra would run what a config names (`_target_`, logging factories, resolvers, further files by `defaults`), and fairseq
what some of its settings say. So hydra is given a single file of plain values, and no folder that is anybody else's.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flea_fairseq.data.files import read_text, write_text
from flea_fairseq.data.plain_yaml import parse_yaml
from flea_fairseq.errors import ExperimentError

CONFIG_NAME = "flea_training"  # none of fairseq's own configs
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
WORDS = {  # the only other keys under which text may stand: one word, by which fairseq or we choose among our own
    "common.log_format", "common.tensorboard_logdir", "checkpoint.restore_file", "checkpoint.best_checkpoint_metric",
    "distributed_training.distributed_backend", "distributed_training.ddp_backend", "task._name", "task.crop",
    "task.labels", "dataset.train_subset", "dataset.valid_subset", "criterion._name", "criterion.log_keys",
    "optimizer._name", "lr_scheduler._name", "model._name", "model.pooling", "model.layers", "model.head_activation",
    "model.head", "model.precision", "model.extractor_mode", "model.activation_fn", "model.mask_selection",
    "model.mask_channel_selection",
}  # fmt: skip
WORD = re.compile(r"\w[\w.-]*")  # no path, so that what fairseq opens or writes by it stays in its own folders
OWN = {  # what the command itself says; fairseq imports, reads or writes what these name
    "common.user_dir": "nothing: it is this plugin", "checkpoint.save_dir": "--run-dir", "task.data": "DATA",
    "task.label_dir": "--labels", "task.cnn_cache": "--cnn-cache", "model.init_checkpoint": "--init",
    "hydra.run.dir": "--run-dir",
}  # fmt: skip
UNSET = (None, "", "???")  # a file names such a key for fairseq-hydra-train, and leaves it to the command
REFERENCE = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")
FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # YAML 1.1 wants a point in 1e-06; hydra's loader does not


def read_flat(path: Path) -> dict[str, Any]:
    """A config file's values under dotted keys, checked. Raises ExperimentError."""
    try:
        content = parse_yaml(read_text(path)) or {}
        values = _flat(content) if isinstance(content, dict) else None
    except FileNotFoundError:
        raise ExperimentError(f"{path}: no such config; configs are named without .yaml") from None
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{path}: cannot be read as a config ({error})") from None
    if values is None:
        raise ExperimentError(f"{path}: expected keys and values, found {type(content).__name__}")
    return {key: checked(f"{path}: {key}", key, value, in_file=True) for key, value in values.items()}


def merged(config_dir: Path, config: str, system: str | None, changes: Sequence[str]) -> dict[str, Any]:
    """A training's values under dotted keys: the base config, the system's over it, then `key=value` changes.

    Raises ExperimentError for a file that cannot be read, a change that is none, and a value that could be more.
    """
    values: dict[str, Any] = {}
    for name in (config, *([f"system/{system}"] if system else [])):
        values.update(read_flat(config_dir / f"{name}.yaml"))
    values.update(read_change(change) for change in changes)
    return values


def read_change(change: str) -> tuple[str, Any]:
    """`key=value`, the value as YAML. Raises ExperimentError."""
    key, equals, text = change.partition("=")
    if not equals:
        raise ExperimentError(f"{change!r}: expected key=value, such as optimization.max_epoch=2")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise ExperimentError(f"{change!r}: the value is not YAML: {error}") from None
    return key, checked(key, key, value)


def write_config(folder: Path, values: Mapping[str, Any]) -> list[str]:
    """Write a training's config, references resolved, and return the words by which hydra takes it.

    Raises ExperimentError for a path with `${`, which no config of omegaconf's can hold.
    """
    tree: dict[str, Any] = {}
    for key in values:
        value = resolved(key, values)
        if "${" in str(value):
            raise ExperimentError(f"{value}: hydra reads `${{` in a path as a reference; rename the folder")
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ExperimentError(f"{key}: {parent} is a value, and has no keys")
        node[last] = value
    text = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False, width=1000)
    write_text(folder / f"{CONFIG_NAME}.yaml", f"# made by flea train\n{text}")
    return ["--config-dir", str(folder.resolve()), "--config-name", CONFIG_NAME]


def checked(where: str, key: Any, value: Any, in_file: bool = False) -> Any:
    """A config's value, numbers as numbers. Raises ExperimentError where it would be more than a value to anybody.

    in_file: the value stands in a config file, which may leave to the command what the command says, and may refer to
    other keys.
    """
    if not isinstance(key, str) or not key.isascii() or not all(map(_is_word, key.split("."))):
        raise ExperimentError(f"{where}: {key!r} is no key of a config")
    if key in OWN:
        if in_file and (value in UNSET or _refers(value) or key == "checkpoint.save_dir"):
            return value
        raise ExperimentError(f"{where} is {value!r}: the command says it: {OWN[key]}")
    if key.split(".")[0] in ("hydra", "defaults") or "." not in key:
        raise ExperimentError(
            f"{where}: flea train reads plain values of fairseq's sections alone, and of `hydra` only run.dir; what "
            "else a config tells hydra is for fairseq-hydra-train"
        )
    if key.rpartition(".")[2] == PROGRAM and value is not None:
        raise ExperimentError(f"{where} is {str(value)[:200]!r}: fairseq would start this as a program; leave it out")
    if isinstance(value, (list, tuple)) and not any(isinstance(item, (list, tuple)) for item in value):
        return [checked(where, key, item, in_file) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if not isinstance(value, str):
        raise ExperimentError(f"{where} is {str(value)[:200]!r}, expected a number, a word, or a list of them")
    if FLOAT.fullmatch(value):
        return float(value)
    if "${" in value and not (in_file and _refers(value)):
        raise ExperimentError(f"{where} is {value[:200]!r}: interpolations are not read")
    if key.rpartition(".")[2] in EVALUATED:
        return _numbers_only(where, value)
    if _refers(value) or value == "" or (key in WORDS and WORD.fullmatch(value)):
        return value
    expected = "one word, no path" if key in WORDS else "a number"
    raise ExperimentError(
        f"{where} is {value[:200]!r}, expected {expected}: other text could make fairseq open or run something; "
        "fairseq-hydra-train takes it"
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _is_word(word: str) -> bool:
    return word.isidentifier() and (word == "_name" or not word.startswith("_"))


def _refers(value: Any) -> bool:
    return isinstance(value, str) and REFERENCE.fullmatch(value) is not None


def resolved(key: str, values: Mapping[str, Any]) -> Any:
    """A plain value, or the one that it refers to."""
    value, seen = values[key], {key}
    while match := REFERENCE.fullmatch(value) if isinstance(value, str) else None:
        if match[1] in seen or match[1] not in values:
            raise ExperimentError(f"{key} is {value}, which refers to no other value")
        seen.add(match[1])
        value = values[match[1]]
    return str(value) if isinstance(value, Path) else value


def _numbers_only(where: str, value: str) -> str:
    """Of a text that fairseq evaluates, let only numbers in brackets reach it, with + and *."""
    nodes: list[ast.AST | None]
    try:
        nodes = list(ast.walk(ast.parse(value, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        nodes = [None]
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    if not all(isinstance(node, NUMBERS) for node in nodes) or not all(type(c) in (int, float) for c in constants):
        raise ExperimentError(
            f"{where} is {value[:200]!r}: fairseq runs this text as Python; only numbers in brackets may stand there, "
            "such as [0.9, 0.98] or [(512,10,5)] + [(512,3,2)] * 4"
        )
    return value
