"""What the pretraining models share: a config that is safe to build from and fits the checkpoint to start from."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, open_dict
from torch import nn

from flea_fairseq.errors import CheckpointError, ExperimentError
from flea_fairseq.models.checkpoints import Checkpoint
from flea_fairseq.models.encoder import parse_conv_layers

CONV = "model.conv_feature_layers"


def make_safe(cfg: DictConfig, fixed: Mapping[str, Any]) -> None:
    """Replace `cfg.conv_feature_layers`, which fairseq evaluates as Python, by what our grammar reads in it.

    fixed: settings that may have one value only. Raises CheckpointError for layers outside the grammar, and
    ExperimentError for another value.
    """
    layers = parse_conv_layers(cfg.conv_feature_layers, CONV)
    with open_dict(cfg):
        cfg.conv_feature_layers = str(list(layers))
    for name, value in fixed.items():
        if str(cfg[name]) != str(value):
            raise ExperimentError(f"model.{name}={cfg[name]} is not supported by this model, only {value}")


def freeze_cnn(model: nn.Module, feature_grad_mult: float) -> None:
    """With feature_grad_mult=0 the convolutions take neither a gradient nor weight decay."""
    if feature_grad_mult <= 0:
        model.feature_extractor.requires_grad_(False)


def check_shape(
    checkpoint: Checkpoint, cfg: DictConfig, normalize: bool, head: Mapping[str, Any] | None = None
) -> None:
    """Raise CheckpointError, with the settings to give, unless `cfg` describes the checkpoint.

    head: settings, beside the encoder's, that the checkpoint asks for. fairseq stores the config with the model as it
    was given, so it has to be right, and is not corrected silently.
    """
    wanted = {**checkpoint.encoder.to_dict(), **(head or {})}
    given = {name: cfg[name] for name in wanted if name in cfg}
    given["conv_layers"] = parse_conv_layers(cfg.conv_feature_layers, CONV)
    given["normalize"] = normalize
    wrong = [name for name in wanted if str(given[name]) != str(wanted[name])]
    if wrong:
        settings = {"conv_layers": CONV, "normalize": "task.normalize"}
        remedy = " ".join(f"{settings.get(name, 'model.' + name)}={_setting(wanted[name])}" for name in wrong)
        raise CheckpointError(f"{checkpoint.path}: it has another shape than the config; set {remedy}")


def _setting(value: Any) -> str:
    """A value as a command line takes it."""
    if isinstance(value, tuple):
        return f"'{list(value)}'"
    return str(value).lower() if isinstance(value, bool) else str(value)
