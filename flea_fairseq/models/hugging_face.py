"""Hugging Face HuBERT and wav2vec 2.0 folders under fairseq's parameter names (transformers itself is not needed)."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from flea_fairseq.data.files import parse_json, read_text
from flea_fairseq.errors import CheckpointError
from flea_fairseq.models.encoder import EncoderConfig
from flea_fairseq.models.fingerprint import weights_file

RENAMES = [
    (r"^feature_extractor\.conv_layers\.(\d+)\.conv\.", r"feature_extractor.conv_layers.\1.0."),
    (r"^feature_projection\.layer_norm\.", "layer_norm."),
    (r"^feature_projection\.projection\.", "post_extract_proj."),
    (r"^masked_spec_embed$", "mask_emb"),
    (r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0$", "encoder.pos_conv.0.weight_g"),
    (r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1$", "encoder.pos_conv.0.weight_v"),
    (r"^encoder\.pos_conv_embed\.conv\.", "encoder.pos_conv.0."),
    (r"^(encoder\.layers\.\d+)\.attention\.", r"\1.self_attn."),
    (r"^(encoder\.layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
    (r"^(encoder\.layers\.\d+)\.feed_forward\.intermediate_dense\.", r"\1.fc1."),
    (r"^(encoder\.layers\.\d+)\.feed_forward\.output_dense\.", r"\1.fc2."),
    (r"^(encoder\.layers\.\d+\.final_layer_norm|encoder\.layer_norm)\.", r"\1."),
]
HEAD_RENAMES = {  # of Wav2Vec2ForPreTraining; project_q and the quantizer's weight_proj are named alike
    "quantizer.codevectors": "quantizer.vars",
    "project_hid.weight": "final_proj.weight",
    "project_hid.bias": "final_proj.bias",
}


def read_folder(
    folder: Path, load_tensors: Callable[[Path], Any]
) -> tuple[EncoderConfig, dict[str, Tensor], dict[str, Tensor]]:
    """The encoder's shape, its parameters, and the others, all under fairseq's names as far as it has them."""
    config = _read_json(folder / "config.json")
    if config.get("model_type") not in ("hubert", "wav2vec2"):
        raise CheckpointError(
            f"{folder}/config.json: model_type is {config.get('model_type')!r}, expected 'hubert' or 'wav2vec2'"
        )
    encoder, rest = {}, {}
    layer_norm_mode = config.get("feat_extract_norm", "group") == "layer"
    for name, value in load_tensors(weights_file(folder)).items():
        renamed = rename(re.sub(r"^(hubert|wav2vec2)\.", "", name), layer_norm_mode)
        if renamed is None:
            rest[HEAD_RENAMES.get(name, name)] = value
        else:
            encoder[renamed] = value
    return _encoder_config(config, folder), encoder, rest


def rename(name: str, layer_norm_mode: bool) -> str | None:
    """fairseq's name of a transformers parameter; None if it is not the encoder's."""
    norm = re.match(r"^feature_extractor\.conv_layers\.(\d+)\.layer_norm\.(weight|bias)$", name)
    if norm:
        inner = "2.1" if layer_norm_mode else "2"
        return f"feature_extractor.conv_layers.{norm[1]}.{inner}.{norm[2]}"
    for pattern, replacement in RENAMES:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return None


def _encoder_config(config: dict[str, Any], folder: Path) -> EncoderConfig:
    try:
        return EncoderConfig(
            conv_layers=tuple(zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"])),
            extractor_mode="layer_norm" if config["feat_extract_norm"] == "layer" else "default",
            conv_bias=config["conv_bias"],
            encoder_layers=config["num_hidden_layers"],
            encoder_embed_dim=config["hidden_size"],
            encoder_ffn_embed_dim=config["intermediate_size"],
            encoder_attention_heads=config["num_attention_heads"],
            activation_fn=config["hidden_act"],
            layer_norm_first=config["do_stable_layer_norm"],
            conv_pos=config["num_conv_pos_embeddings"],
            conv_pos_groups=config["num_conv_pos_embedding_groups"],
            normalize=_normalize(folder),
        )
    except KeyError as error:
        raise CheckpointError(f"{folder}/config.json: no entry {error}") from error
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json: {error}") from error


def _normalize(folder: Path) -> bool:
    """Whether the waveform is normalised, from preprocessor_config.json; transformers' own default is that it is."""
    path = folder / "preprocessor_config.json"
    return bool(_read_json(path).get("do_normalize", True)) if path.is_file() else True


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_text(path))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: missing; a Hugging Face folder has it beside the weights") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
