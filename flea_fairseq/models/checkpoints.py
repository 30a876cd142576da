"""Model files: safe reading of fairseq and Hugging Face checkpoints, and loading them as our models.

Nothing here executes code from a file: tensors and plain containers are read with `weights_only`, the few classes that
fairseq itself stores are allow-listed, and config strings are parsed by a grammar, never evaluated.
"""

import argparse
import collections
import math
import pickle
import re
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import omegaconf
import torch
from fairseq.data.dictionary import Dictionary
from fairseq.distributed.utils import _TensorPlaceholder
from safetensors.torch import load_file
from torch import Tensor

from flea_fairseq.data.arrays import check_stored
from flea_fairseq.data.files import parse_json, replacing
from flea_fairseq.errors import CheckpointError
from flea_fairseq.models import hugging_face
from flea_fairseq.models.encoder import BASE_CONV_LAYERS, Encoder, EncoderConfig, Regularisation, parse_conv_layers
from flea_fairseq.models.fingerprint import fingerprint
from flea_fairseq.models.wav2vec_v1 import Wav2VecV1, frame_parameters

if TYPE_CHECKING:
    from flea_fairseq.models.flea_classifier import FleaClassifier  # it imports this module

State = dict[str, Tensor]
FACTS = "flea_fairseq"  # the key of our own entry in a model file, which fairseq passes over
ENCODER_PARTS = ("feature_extractor.", "layer_norm.", "post_extract_proj.", "mask_emb", "encoder.")
SAFE_CLASSES = [
    Dictionary,  # in the task state of HuBERT pretraining
    argparse.Namespace,  # the config of fairseq's older checkpoints
    _TensorPlaceholder,  # from here on: what processes of one run send each other, a checkpoint above all
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    omegaconf.base.ContainerMetadata,
    omegaconf.base.Metadata,
    omegaconf.nodes.AnyNode,
    omegaconf.nodes.BooleanNode,
    omegaconf.nodes.FloatNode,
    omegaconf.nodes.IntegerNode,
    omegaconf.nodes.StringNode,
    collections.defaultdict,
    collections.OrderedDict,
    Any,
    dict,
    list,
    int,
]


def allow_fairseq_classes() -> None:
    """Let torch's safe loader read the classes that fairseq stores in its own checkpoints, and no others."""
    torch.serialization.add_safe_globals(SAFE_CLASSES)


@dataclass(frozen=True)
class Checkpoint:
    """What a model file holds: the encoder under fairseq's parameter names, and the rest of the parameters."""

    path: Path
    encoder: EncoderConfig
    encoder_state: State
    head_state: State = field(default_factory=dict)  # prediction head (pretraining) or pooling and classifier
    model: dict[str, Any] = field(default_factory=dict)  # the model's config as plain values
    facts: dict[str, Any] = field(default_factory=dict)  # what `flea train` and `flea calibrate` noted beside it


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a fairseq `.pt` (HuBERT, wav2vec 2.0, ours) or a Hugging Face folder.

    Raises CheckpointError if the file is missing, damaged, of another kind, or holds anything but data.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    content = load_tensors(path)
    return replace(_read_fairseq(path, *_entries(content, path)), facts=_facts(content, path))


def load_encoder(path: str | Path) -> Encoder | Wav2VecV1:
    """The encoder of any checkpoint that `read_checkpoint` reads, or a wav2vec of the first kind, for evaluation."""
    path = Path(path)
    encoder: Encoder | Wav2VecV1
    if path.is_dir():
        encoder = build_encoder(_read_folder(path))
    else:
        state, model, task = _entries(load_tensors(path), path)
        frames = frame_parameters(state)
        if frames:
            encoder = Wav2VecV1(model, str(path))
            load_state(encoder, frames, path)
        else:
            encoder = build_encoder(_read_fairseq(path, state, model, task))
    encoder.fingerprint = fingerprint(path)
    return encoder.eval()


def _read_folder(path: Path) -> Checkpoint:
    return Checkpoint(path, *hugging_face.read_folder(path, load_tensors))


def _entries(content: Any, path: Path) -> tuple[State, dict[str, Any], dict[str, Any]]:
    """The parameters of a fairseq checkpoint, and the configs of its model and its task as plain values."""
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise CheckpointError(f"{path}: not a fairseq checkpoint: it has no entry 'model'")
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content["model"].items()):
        raise CheckpointError(f"{path}: not a fairseq checkpoint: its entry 'model' holds more than tensors with names")
    try:
        config = _plain(content.get("cfg"))
        if config:
            return content["model"], _plain(config.get("model")), _plain(config.get("task"))
        args = _plain(content.get("args"))  # fairseq's older checkpoints have one namespace for all
        return content["model"], args, args
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: its config is not one of fairseq's: {str(error)[:300]}") from error


def _facts(content: dict[str, Any], path: Path) -> dict[str, Any]:
    facts = content.get(FACTS, {})
    temperature = facts.get("temperature", 1.0) if isinstance(facts, dict) else None
    if not isinstance(temperature, float) or not 0 < temperature < math.inf:
        raise CheckpointError(
            f"{path}: its facts are damaged: expected a temperature above 0; run flea calibrate again"
        )
    return facts


def _read_fairseq(path: Path, state: State, model: dict[str, Any], task: dict[str, Any]) -> Checkpoint:
    if frame_parameters(state):
        raise CheckpointError(f"{path}: wav2vec of the first kind: it gives frames (flea extract), but has no encoder")
    if any(name.startswith("w2v_encoder.") for name in state):
        raise CheckpointError(
            f"{path}: wav2vec 2.0 or HuBERT fine-tuned for speech recognition by fairseq; give the pretrained model"
        )
    try:
        if not model.get("encoder_config"):
            encoder, head = _split_encoder(state)
            return Checkpoint(path, _encoder_config(model, task, path), encoder, head, model)
        # flea_classifier: the shape of the encoder is stored with it
        own = {name: value for name, value in state.items() if name.startswith("encoder.")}
        encoder = {name.removeprefix("encoder."): value for name, value in own.items()}
        head = {name: value for name, value in state.items() if name not in own}
        shape = EncoderConfig.from_dict(parse_json(model["encoder_config"]), str(path))
        return Checkpoint(path, shape, encoder, head, model)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{path}: its config is not one of fairseq's or ours: {str(error)[:300]}") from error


def build_encoder(checkpoint: Checkpoint, regularisation: Regularisation | None = None) -> Encoder:
    """An encoder of the checkpoint's shape with its weights."""
    weights, there = checkpoint.encoder.weights, _stored_bytes(checkpoint.encoder_state)
    if weights > there:  # before memory is taken for them
        raise CheckpointError(
            f"{checkpoint.path}: its config describes {weights} weights, the file has {there} bytes of them; "
            "it is damaged, or its config is another model's"
        )
    try:
        encoder = Encoder(checkpoint.encoder, regularisation)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise CheckpointError(f"{checkpoint.path}: no encoder can be made of its config: {str(error)[:300]}") from error
    load_state(encoder, checkpoint.encoder_state, checkpoint.path)
    return encoder


def _stored_bytes(state: State) -> int:
    """The bytes that parameters take, each once: a view can look larger than what is stored."""
    dense = [value for value in state.values() if value.layout == torch.strided]
    return sum({value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in dense}.values())


def load_classifier(path: str | Path) -> "FleaClassifier":
    """A `flea_classifier` checkpoint as a FleaClassifier in evaluation mode; it needs no file but this one."""
    from flea_fairseq.models.flea_classifier import FleaClassifier  # it imports this module

    checkpoint = read_checkpoint(path)
    if not checkpoint.model.get("encoder_config"):
        raise CheckpointError(f"{path}: an encoder without a classifier; train one with task speech_emotion first")
    return FleaClassifier.from_checkpoint(checkpoint).eval()


def load_state(module: torch.nn.Module, state: State, path: Path) -> None:
    """Load parameters strictly. Raises CheckpointError naming what is missing, left over, or of another shape."""
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:600]
        raise CheckpointError(
            f"{path}: its parameters do not fit the model that its config describes: {detail}"
        ) from error


def load_tensors(path: Path) -> Any:
    """Read a torch or safetensors file without executing anything from it."""
    allow_fairseq_classes()
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            check_stored(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; give a fairseq .pt or a Hugging Face folder") from error
    except pickle.UnpicklingError as error:  # torch's own message advises to load the file unsafely
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found:
            raise CheckpointError(
                f"{path}: refused, because it asks for {found[1][:100]!r}, which is neither a tensor nor a setting"
            ) from None
        raise CheckpointError(f"{path}: refused: no tensors and settings; damaged, or not a model file") from None
    except Exception as error:  # torch's reader passes on whatever a damaged file leads it to, such as IndexError
        raise CheckpointError(f"{path}: damaged or not a model file: {str(error)[:300]}") from error


def write_model(source: Path, output: Path, facts: dict[str, Any]) -> None:
    """Write what loading needs, without the optimiser (two thirds of the file) and the meters, and add facts.

    facts: plain values beside those that the source holds already, such as the temperature of its probabilities.
    """
    content = load_tensors(source)
    kept = {key: content[key] for key in ("args", "cfg", "model", "task_state") if key in content}
    kept[FACTS] = {**content.get(FACTS, {}), **facts}
    with replacing(output) as temporary, open(temporary, "wb") as file:
        torch.save({**kept, "optimizer_history": [], "extra_state": {}}, file)


def _split_encoder(state: State) -> tuple[State, State]:
    encoder = {name: value for name, value in state.items() if name.startswith(ENCODER_PARTS)}
    return encoder, {name: value for name, value in state.items() if name not in encoder}


def _plain(config: Any) -> dict[str, Any]:
    """A stored config as plain values; interpolations are left as text and never resolved."""
    if isinstance(config, (omegaconf.DictConfig, omegaconf.ListConfig)):
        config = omegaconf.OmegaConf.to_container(config, resolve=False)
    if isinstance(config, argparse.Namespace):
        config = vars(config)
    return dict(config or {})


def _encoder_config(model: dict[str, Any], task: dict[str, Any], path: Path) -> EncoderConfig:
    if model.get("layer_type", "transformer") != "transformer":
        raise CheckpointError(f"{path}: layer_type {model['layer_type']!r} is not supported, only 'transformer'")
    base = EncoderConfig()
    shape = {name: model.get(name, getattr(base, name)) for name in base.to_dict() if name not in ("conv_layers",)}
    shape["normalize"] = bool(task.get("normalize", False))
    conv = model.get("conv_feature_layers") or BASE_CONV_LAYERS
    if not isinstance(conv, str):
        raise ValueError(f"conv_feature_layers is of type {type(conv).__name__}, expected text")
    for name in ("activation_fn", "extractor_mode"):
        value = getattr(shape[name], "value", shape[name])
        shape[name] = str(value) if isinstance(value, str) else value
    return EncoderConfig(conv_layers=parse_conv_layers(conv, str(path)), **shape)
