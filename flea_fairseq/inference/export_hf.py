"""A classifier as a Hugging Face folder: stock `HubertForSequenceClassification` for mean pooling, or one code file."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import HubertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor

from flea_fairseq.data.audio import SAMPLE_RATE
from flea_fairseq.errors import CheckpointError
from flea_fairseq.inference import modeling_flea
from flea_fairseq.inference.export import Exported, calibrated_logits
from flea_fairseq.inference.model_card import model_card
from flea_fairseq.models.encoder import EncoderConfig
from flea_fairseq.models.flea_classifier import FleaClassifier
from flea_fairseq.models.hugging_face import rename

Classifier = modeling_flea.FleaForSequenceClassification | HubertForSequenceClassification
CODE = "modeling_flea.py"
AUTO = "AutoModelForAudioClassification"


def write_hf(model: FleaClassifier, checkpoint: Path, output: Path) -> Exported:
    """Write safetensors, config, preprocessor config and model card; logits are divided by the temperature.

    Raises CheckpointError for a model that neither the stock class nor our code file holds.
    """
    made = to_transformers(model)
    made.save_pretrained(output)
    feature_extractor(model).save_pretrained(output)
    if isinstance(made, modeling_flea.FleaForSequenceClassification):
        shutil.copyfile(modeling_flea.__file__, output / CODE)
        config = json.loads((output / "config.json").read_text(encoding="utf-8"))
        config["auto_map"] = {AUTO: f"{CODE.removesuffix('.py')}.{type(made).__name__}"}
        (output / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (output / "README.md").write_text(model_card(model, checkpoint, own_code=CODE), encoding="utf-8")
    loaded = type(made).from_pretrained(output).eval()
    extract = Wav2Vec2FeatureExtractor.from_pretrained(output)

    @torch.inference_mode()
    def run(waveform: np.ndarray) -> np.ndarray:
        values = extract(waveform, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values
        return loaded(values).logits[0].double().numpy()

    return Exported(output, run, lambda waveform: calibrated_logits(model, waveform))


def to_transformers(model: FleaClassifier) -> Classifier:
    """The same model in transformers' classes, in evaluation mode; its logits are ours over the temperature."""
    if model.pooling_name not in ("mean", "attention") or not isinstance(model.activation, nn.Identity):
        raise CheckpointError(
            f"pooling {model.pooling_name} with {type(model.activation).__name__.lower()} before the head cannot be "
            "exported as a Hugging Face folder or ONNX, only mean and attention with none; --to fairseq has the encoder"
        )
    if model.context:
        raise CheckpointError(
            "a model that hears little at a time (model.context) cannot be exported as a Hugging Face folder or ONNX, "
            "whose transformers hear whole recordings; --to fairseq has the encoder"
        )
    config = hub_config(model)
    attention = model.pooling_name == "attention"
    kind: type[Classifier] = (
        modeling_flea.FleaForSequenceClassification if attention else HubertForSequenceClassification
    )
    made = kind(config)
    state = {f"hubert.{name}": value for name, value in encoder_state(model, made.hubert.state_dict()).items()}
    state["projector.weight"] = torch.eye(config.hidden_size)  # the stock class has a layer more than we
    state["projector.bias"] = torch.zeros(config.hidden_size)
    state["classifier.weight"] = model.head.weight.detach() / model.temperature
    state["classifier.bias"] = model.head.bias.detach() / model.temperature
    if model.layer_logits is not None:
        state["layer_weights"] = model.layer_logits.detach()
    if attention:
        state = {name: value for name, value in state.items() if not name.startswith("projector.")}
        state["pooling.weight"] = model.pooling.get_parameter("weight").detach()
    made.load_state_dict({name: value.detach().cpu().clone() for name, value in state.items()}, strict=True)
    return made.eval()


def encoder_state(model: FleaClassifier, names: Iterable[str]) -> dict[str, Tensor]:
    """The encoder's parameters that a HubertModel of these parameter names has, under these names."""
    own, identity = model.encoder.state_dict(), torch.eye(model.encoder.dim)
    if model.encoder.post_extract_proj is None:  # transformers always has one
        own |= {"post_extract_proj.weight": identity, "post_extract_proj.bias": identity.new_zeros(len(identity))}
    layer_norm_mode = model.encoder.config.extractor_mode == "layer_norm"
    return {name: own[known] for name in names if (known := rename(name, layer_norm_mode))}


def hub_config(model: FleaClassifier) -> HubertConfig:
    """The shape and the classes, dropouts off."""
    shape: EncoderConfig = model.encoder.config
    dims, kernels, strides = (list(values) for values in zip(*shape.conv_layers))
    names = dict(enumerate(model.classes))
    off: dict[str, Any] = dict.fromkeys(
        ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout",
         "layerdrop", "mask_time_prob"), 0.0,
    )  # fmt: skip
    return HubertConfig(
        hidden_size=shape.encoder_embed_dim, num_hidden_layers=shape.encoder_layers,
        num_attention_heads=shape.encoder_attention_heads, intermediate_size=shape.encoder_ffn_embed_dim,
        hidden_act=shape.activation_fn, conv_dim=dims, conv_kernel=kernels, conv_stride=strides,
        conv_bias=shape.conv_bias,
        feat_extract_norm="layer" if shape.extractor_mode == "layer_norm" else "group",
        num_conv_pos_embeddings=shape.conv_pos, num_conv_pos_embedding_groups=shape.conv_pos_groups,
        do_stable_layer_norm=shape.layer_norm_first, classifier_proj_size=shape.encoder_embed_dim,
        use_weighted_layer_sum=model.layer_logits is not None, id2label=names,
        label2id={name: i for i, name in names.items()}, **off,
    )  # fmt: skip


def feature_extractor(model: FleaClassifier) -> Wav2Vec2FeatureExtractor:
    """What waveforms need: 16 kHz, and zero mean and unit variance where the encoder was trained so."""
    return Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=SAMPLE_RATE, do_normalize=model.normalize,
        return_attention_mask=model.encoder.config.extractor_mode == "layer_norm",
    )  # fmt: skip
