"""wav2vec (the first, Schneider et al. 2019) as a source of frames to cluster: the labels of P-TAPT."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.models.wav2vec.wav2vec import ConvAggegator, ConvFeatureExtractionModel, Wav2VecConfig
from torch import Tensor, nn

from flea_fairseq.data.audio import HOP_SAMPLES, frame_count
from flea_fairseq.errors import CheckpointError
from flea_fairseq.models.encoder import parse_conv_layers

PARTS = ("feature_extractor.", "feature_aggregator.")  # what gives frames; the rest is for its own pretraining
SUPPORTED = {"aggregator": "cnn", "vq_type": "none"}
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}
FRAME_HOP = 160  # a frame every 10 ms


def frame_parameters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a checkpoint's parameters those that make frames; empty unless it is a wav2vec of the first kind."""
    if not any(name.startswith("feature_aggregator.") for name in state):
        return {}
    return {name: value for name, value in state.items() if name.startswith(PARTS)}


class Wav2VecV1(nn.Module):
    """Context frames at HuBERT's 50 a second, with as much of `Encoder`'s interface as feature extraction needs.

    wav2vec makes a frame every 10 ms, of which every second is kept, so that frame i starts with sample 320 i as
    HuBERT's does; it sees 465 samples where HuBERT sees 400. An utterance that ends within the 65 samples between
    (4 ms) gets zeros up to there for its last frame; no other is padded, since the group norms see all of an utterance.
    """

    fingerprint: str = ""  # sha256 of the file the weights came from
    num_layers = 1  # the context network's output
    normalize = False

    def __init__(self, config: Mapping[str, Any], source: str) -> None:
        """config: the checkpoint's, where fairseq's defaults stand for what is absent.

        Raises CheckpointError, naming `source`, for a network of another kind.
        """
        super().__init__()
        values = {**{name: field.default for name, field in Wav2VecConfig.__dataclass_fields__.items()}, **config}
        for name, supported in SUPPORTED.items():
            if str(values[name] or "none") != supported:
                raise CheckpointError(f"{source}: wav2vec with {name}={values[name]}; only {supported} is supported")
        if str(values["activation"]) not in ACTIVATIONS:
            raise CheckpointError(f"{source}: activation {values['activation']!r} is not one of {sorted(ACTIVATIONS)}")
        layers = parse_conv_layers(str(values["conv_feature_layers"]), source)
        context = parse_conv_layers(str(values["conv_aggregator_layers"]), f"{source}, conv_aggregator_layers")
        strides = math.prod(stride for *_, stride in layers), math.prod(stride for *_, stride in context)
        if strides != (FRAME_HOP, 1):
            raise CheckpointError(f"{source}: a frame every {math.prod(strides)} samples, expected {FRAME_HOP} (10 ms)")
        shared = {
            "residual_scale": values["residual_scale"],
            "non_affine_group_norm": values["non_affine_group_norm"],
            "activation": ACTIVATIONS[str(values["activation"])](),
        }
        try:
            self.feature_extractor = ConvFeatureExtractionModel(
                layers, 0.0, values["log_compression"], values["skip_connections_feat"], **shared
            )
            self.feature_aggregator = ConvAggegator(
                context, layers[-1][0], 0.0, values["skip_connections_agg"],
                conv_bias=not values["no_conv_bias"], zero_pad=values["agg_zero_pad"], **shared,
            )  # fmt: skip
        except (TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{source}: no wav2vec can be made of its config: {str(error)[:300]}") from error
        self.dim = context[-1][0]
        self.receptive_field = receptive_field(layers)

    def forward(self, source: Tensor, layer: int | None = None) -> tuple[Tensor, Tensor]:
        """source: (B, samples) at 16 kHz, all whole -> context frames (B, T, D), T for each (B,), as `Encoder`'s."""
        states, frames = self.hidden_states(source)
        return states[self.num_layers if layer is None else layer], frames

    def hidden_states(self, source: Tensor) -> tuple[list[Tensor], Tensor]:
        """The convolutions' and the context network's frames, each (B, T, D) with T = frame_count(samples)."""
        frames = frame_count(source.size(1))
        needed = HOP_SAMPLES * (max(frames, 1) - 1) + self.receptive_field
        features = self.feature_extractor(F.pad(source, (0, max(0, needed - source.size(1)))))
        step = HOP_SAMPLES // FRAME_HOP
        states = [x[:, :, ::step][:, :, :frames].transpose(1, 2) for x in (features, self.feature_aggregator(features))]
        return states, torch.full((source.size(0),), frames, device=source.device)


def receptive_field(layers: tuple[tuple[int, int, int], ...]) -> int:
    """Samples that one frame of a stack of (dim, kernel, stride) convolutions sees."""
    field, hop = 1, 1
    for _, kernel, stride in layers:
        field, hop = field + (kernel - 1) * hop, hop * stride
    return field
