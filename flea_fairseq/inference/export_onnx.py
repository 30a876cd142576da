"""A classifier as ONNX: waveforms of equal length -> logits and the weight of each frame."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from flea_fairseq.data.audio import SAMPLE_RATE
from flea_fairseq.inference.export import Exported, calibrated_logits
from flea_fairseq.inference.export_hf import to_transformers
from flea_fairseq.inference.model_card import PADDING, facts
from flea_fairseq.models.flea_classifier import FleaClassifier

OPSET = 17


class WithAttention(nn.Module):
    """(B, samples) at 16 kHz as recorded -> logits (B, C) over the temperature, attention (B, T)."""

    def __init__(self, model: FleaClassifier) -> None:
        super().__init__()
        self.made, self.normalize = to_transformers(model), model.normalize
        self.made.config._attn_implementation = "eager"  # plain matrix products

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        if self.normalize:
            mean = waveform.mean(1, keepdim=True)
            variance = (waveform - mean).square().mean(1, keepdim=True)
            waveform = (waveform - mean) / (variance + 1e-5).sqrt()
        output = self.made(waveform)
        if hasattr(output, "attention"):
            return output.logits, output.attention
        frames = self.made.hubert._get_feat_extract_output_lengths(waveform.shape[1])
        return output.logits, waveform.new_ones(waveform.shape[0], frames) / frames


def write_onnx(model: FleaClassifier, checkpoint: Path, output: Path) -> Exported:
    """Write a model of dynamic length and batch, with what else is known of it in its metadata.

    All waveforms of a batch must be as long as each other: padding changes what a group-norm encoder gives.
    """
    example = torch.zeros(2, 16000) + 0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, of shapes that are Python numbers
        torch.onnx.export(
            WithAttention(model).eval(), (example,), str(output), dynamo=False, opset_version=OPSET,
            input_names=["waveform"], output_names=["logits", "attention"],
            dynamic_axes={"waveform": {0: "batch", 1: "samples"}, "logits": {0: "batch"},
                          "attention": {0: "batch", 1: "frames"}},
        )  # fmt: skip
    made = onnx.load(str(output))
    values = {"classes": model.classes, "sample_rate": SAMPLE_RATE, "padding": PADDING, **facts(model, checkpoint)}
    onnx.helper.set_model_props(
        made, {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    )
    onnx.save(made, str(output))
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])

    def run(waveform: np.ndarray) -> np.ndarray:
        logits, attention = session.run(None, {"waveform": waveform[None]})
        return np.concatenate([logits[0], attention[0]]).astype(np.float64)

    def reference(waveform: np.ndarray) -> np.ndarray:
        attention = model.listen([torch.from_numpy(waveform)])["attention"][0].double().cpu().numpy()
        return np.concatenate([calibrated_logits(model, waveform), attention])

    return Exported(output, run, reference)
