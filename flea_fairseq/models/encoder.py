"""The speech encoder that every phase shares: HuBERT or wav2vec 2.0, made of fairseq's own modules."""

import ast
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from threading import get_ident
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.models.hubert.hubert import HubertConfig
from fairseq.models.wav2vec.wav2vec2 import ConvFeatureExtractionModel, TransformerEncoder
from fairseq.modules import LayerNorm
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from flea_fairseq.errors import CheckpointError
from flea_fairseq.models import lean_cnn
from flea_fairseq.models.lean_layer import make_lean
from flea_fairseq.models.local_context import Windows

ConvLayers = tuple[tuple[int, int, int], ...]
Mask = Callable[[Tensor, Tensor | None], Tensor]
MOST_CONV_LAYERS = 64
MOST_CONV_WEIGHTS = 1 << 26  # 256 MiB; HuBERT's are 16 MiB
BASE_CONV_LAYERS = "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"


def parse_conv_layers(text: str, source: str) -> ConvLayers:
    """Read fairseq's `conv_feature_layers` without evaluating it: lists of (dim, kernel, stride), `+`, `* n`.

    Raises CheckpointError, naming `source`, for anything outside that grammar.
    """

    def read(node: ast.expr) -> list[Any]:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            layers = read(node.left) + read(node.right)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            layers, times = read(node.left), ast.literal_eval(node.right)
            if type(times) is not int or not 0 < len(layers) * times <= MOST_CONV_LAYERS:
                raise ValueError(times)
            layers *= times
        else:
            layers = [tuple(layer) for layer in ast.literal_eval(node)]
        return layers

    try:
        layers = tuple(read(ast.parse(text.strip()[:10_000], mode="eval").body))
        if not _are_layers(layers):
            raise ValueError(layers)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise CheckpointError(
            f"{source}: conv_feature_layers is {text[:200]!r}, "
            f"but only lists of (dim, kernel, stride) joined by + and * are read, such as {BASE_CONV_LAYERS!r}"
        ) from error
    return layers


def conv_weights(layers: ConvLayers) -> int:
    """The weights of convolutions, (dim, kernel, stride) each, that begin with one channel."""
    channels = [1, *(layer[0] for layer in layers)]
    return sum(before * dim * kernel for before, (dim, kernel, _) in zip(channels, layers))


def _are_layers(layers: object) -> bool:
    return (
        isinstance(layers, tuple)
        and 0 < len(layers) <= MOST_CONV_LAYERS
        and all(isinstance(layer, tuple) and len(layer) == 3 and all(map(_is_size, layer)) for layer in layers)
        and conv_weights(layers) <= MOST_CONV_WEIGHTS
    )


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value <= 1 << 16


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of an encoder, as far as its output depends on it. The defaults are HuBERT-base."""

    conv_layers: ConvLayers = parse_conv_layers(BASE_CONV_LAYERS, "default")
    extractor_mode: str = "default"  # "default": group norm over time in the first layer; "layer_norm": in all
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"
    layer_norm_first: bool = False
    conv_pos: int = 128
    conv_pos_groups: int = 16
    normalize: bool = False  # the waveform must have zero mean and unit variance

    def __post_init__(self) -> None:
        """Raise ValueError for what is no encoder's shape: it may come from a file."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "conv_layers":
                right = _are_layers(value)
            else:
                right = _is_size(value) if type(field.default) is int else type(value) is type(field.default)
            if not right:
                shown = value if isinstance(value, (str, int, float)) else f"of type {type(value).__name__}"
                raise ValueError(f"{field.name} is {shown}, expected such as {field.default!r}")

    @property
    def weights(self) -> int:
        """The weights of an encoder of this shape, without biases and norms."""
        dim, channels = self.encoder_embed_dim, self.conv_layers[-1][0]
        projection = channels * dim if channels != dim else 0
        positions = dim * (dim // self.conv_pos_groups) * self.conv_pos
        layer = dim * (4 * dim + 2 * self.encoder_ffn_embed_dim)
        return conv_weights(self.conv_layers) + projection + positions + self.encoder_layers * layer

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str) -> "EncoderConfig":
        """The inverse of `to_dict`. Raises CheckpointError, naming `source`, for missing or unknown keys."""
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise CheckpointError(f"{source}: the encoder's config has keys {sorted(values)}, expected {sorted(names)}")
        return cls(**{**values, "conv_layers": tuple(tuple(layer) for layer in values["conv_layers"])})


@dataclass(frozen=True)
class Regularisation:
    """What is dropped while training; nothing of it acts in evaluation."""

    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    encoder_layerdrop: float = 0.0
    dropout_input: float = 0.0


class Encoder(nn.Module):
    """HuBERT's or wav2vec 2.0's encoder; parameter names are fairseq's.

    A padded batch gives the same result as each utterance alone: the group norm of the first convolution takes its
    statistics from the true frames only, and frame counts are computed through the convolutions.
    """

    fingerprint: str = ""  # sha256 of the file the weights came from

    def __init__(self, config: EncoderConfig, regularisation: Regularisation | None = None) -> None:
        super().__init__()
        regularisation = regularisation or Regularisation()
        self.config = config
        self.feature_extractor = ConvFeatureExtractionModel(
            list(config.conv_layers), mode=config.extractor_mode, conv_bias=config.conv_bias
        )
        channels = config.conv_layers[-1][0]
        self.layer_norm = LayerNorm(channels)
        self.post_extract_proj = (
            nn.Linear(channels, config.encoder_embed_dim) if channels != config.encoder_embed_dim else None
        )
        self.dropout_input = nn.Dropout(regularisation.dropout_input)
        self.mask_emb = nn.Parameter(torch.empty(config.encoder_embed_dim).uniform_())
        self.encoder = TransformerEncoder(transformer_config(config, regularisation))
        make_lean(self.encoder)
        self.cnn_frozen = False

    @property
    def dim(self) -> int:
        return self.config.encoder_embed_dim

    @property
    def num_layers(self) -> int:
        return self.config.encoder_layers

    @property
    def normalize(self) -> bool:
        return self.config.normalize

    def freeze_cnn(self) -> None:
        """Keep the convolutions as they are: no gradient, no stored activations, no weight decay."""
        self.feature_extractor.requires_grad_(False)
        self.cnn_frozen = True

    def frame_lengths(self, samples: Tensor) -> Tensor:
        """Frames of utterances of so many samples: (B,) -> (B,)."""
        for _, kernel, stride in self.config.conv_layers:
            samples = torch.div(samples - kernel, stride, rounding_mode="floor") + 1
        return samples.clamp(min=0)

    def forward(
        self,
        source: Tensor,
        lengths: Tensor | None = None,
        layer: int | None = None,
        mask: Mask | None = None,
        context: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Encode waveforms.

        source: (B, samples) at 16 kHz, padded at the end, or what `convolve` made of them: (B, T, C); lengths: (B,)
        true samples (None: all whole, which only waveforms can be);
        layer: 1-based transformer layer (None: the last), as fairseq's `output_layer` and transformers'
        `hidden_states[layer]`; mask: called with (x: (B, T, D), padding: (B, T) or None) before the transformer;
        context: of how many frames at most the transformer may know at each (0: of the whole utterance).
        Returns x: (B, T, D) and the frames of each utterance: (B,).
        """
        x, padding, frames, join = self._embed(source, lengths, mask, context)
        x, _ = self.encoder(x, padding_mask=padding, layer=None if layer is None else layer - 1)
        return join(x), frames

    def hidden_states(
        self,
        source: Tensor,
        lengths: Tensor | None = None,
        mask: Mask | None = None,
        last: int | None = None,
        context: int = 0,
    ) -> tuple[list[Tensor], Tensor]:
        """Encode waveforms and keep every layer; arguments as in `forward`; last: compute none above it (None: all).

        Returns last + 1 tensors (B, T, D) and the frames of each utterance (B,). The first is what the
        transformer's first layer reads (positions added; normalised unless layer_norm_first); the i-th after it is
        `forward(layer=i)`, without the final norm of models with layer_norm_first. They equal transformers'
        `hidden_states`. While training, a layer that LayerDrop skips gives again what it would have read.
        """
        x, padding, frames, join = self._embed(source, lengths, mask, context)
        last = self.num_layers if last is None else last
        with layer_inputs(self.encoder) as inputs:
            top, _ = self.encoder(x, padding_mask=padding, layer=last - 1)
        states = [top]
        for i in reversed(range(last)):
            states.append(inputs[i].transpose(0, 1)[:, : x.size(1)] if i in inputs else states[-1])
        return [join(state) for state in states[::-1]], frames

    def _embed(
        self, source: Tensor, lengths: Tensor | None, mask: Mask | None, context: int
    ) -> tuple[Tensor, Tensor | None, Tensor, Callable[[Tensor], Tensor]]:
        """What the transformer reads: x (N, W, D), its padding mask (N, W) or None; the frames (B,) of utterances; and
        what makes their frames (B, T, D) of what the transformer gave. With context N are windows, else utterances."""
        if lengths is None:
            lengths = torch.full((source.size(0),), source.size(1), device=source.device)
        frames = self.frame_lengths(lengths)
        x = self.layer_norm(source if source.dim() == 3 else self.convolve(source, lengths))
        if self.post_extract_proj is not None:
            x = self.post_extract_proj(x)
        x = self.dropout_input(x)
        padding = padding_mask(frames, x.size(1))
        x = x if mask is None else mask(x, padding)
        if not context:
            return x, padding, frames, lambda y: y
        windows = Windows(frames, x.size(1), context)
        return windows.cut(x), windows.padding, frames, windows.join

    def convolve(self, source: Tensor, lengths: Tensor) -> Tensor:
        """The convolutions, which nothing random acts in: (B, samples) and true samples (B,) -> (B, T, C).

        A processor takes one utterance after the other: no work and no memory for padding.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.cnn_frozen):
            if source.device.type == "cpu":
                wholes = [row[None, :n] for row, n in zip(source, lengths.tolist())]
                rows = [lean_cnn.convolve(self.feature_extractor, whole)[0].T for whole in wholes]
                return pad_sequence(rows, batch_first=True)
            return self._convolve_at_once(source, lengths).transpose(1, 2)

    def _convolve_at_once(self, source: Tensor, lengths: Tensor) -> Tensor:
        first, *rest = self.feature_extractor.conv_layers
        x = source.unsqueeze(1)
        if self.config.extractor_mode == "default" and bool((lengths < source.size(1)).any()):
            convolution, dropout, norm, activation = first
            _, kernel, stride = self.config.conv_layers[0]
            frames = torch.div(lengths - kernel, stride, rounding_mode="floor") + 1
            x = activation(masked_group_norm(dropout(convolution(x)), norm, frames))
        else:
            x = first(x)
        for block in rest:
            x = block(x)
        return x


@contextmanager
def layer_inputs(transformer: TransformerEncoder) -> Iterator[dict[int, Tensor]]:
    """Collect, while the context lasts, what each layer reads: {layer from 0: (T, B, D)}, without skipped layers."""
    inputs: dict[int, Tensor] = {}
    caller = get_ident()  # another thread may use the same model meanwhile

    def keep(index: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(layer: nn.Module, args: tuple[Any, ...]) -> None:
            if get_ident() == caller:
                inputs[index] = args[0]

        return hook

    with ExitStack() as stack:
        for index, layer in enumerate(transformer.layers):
            stack.callback(layer.register_forward_pre_hook(keep(index)).remove)
        yield inputs


def transformer_config(config: EncoderConfig, regularisation: Regularisation) -> HubertConfig:
    """fairseq's config for its TransformerEncoder of this shape."""
    values = {**config.to_dict(), **asdict(regularisation)}
    known = {field.name for field in fields(HubertConfig)}
    return HubertConfig(label_rate=50.0, **{key: value for key, value in values.items() if key in known})


def padding_mask(frames: Tensor, width: int) -> Tensor | None:
    """(B,) frame counts -> (B, width) mask that is True on padding; None where there is none."""
    mask = torch.arange(width, device=frames.device) >= frames.unsqueeze(1)
    return mask if bool(mask.any()) else None


def masked_group_norm(x: Tensor, norm: nn.GroupNorm, frames: Tensor) -> Tensor:
    """Group norm with one channel a group, its statistics over the first `frames[b]` frames only: (B, C, T) -> same.

    It is `norm` on each utterance cut to its own length, to the same bits; frames behind it become 0.
    """
    width, counts = x.size(2), frames.clamp(min=1).tolist()
    return torch.cat([F.pad(norm(row[:, :, :n]), (0, width - n)) for row, n in zip(x.split(1), counts)])


def layer_normalised(waveform: Tensor) -> Tensor:
    """A whole waveform with zero mean and unit variance, as fairseq's `task.normalize` does it: (samples,) -> same."""
    return F.layer_norm(waveform, waveform.shape)
