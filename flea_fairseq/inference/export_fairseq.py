"""The bare aligned encoder as a HuBERT checkpoint, for fairseq's own scripts and loaders made for them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq import checkpoint_utils
from fairseq.dataclass import FairseqDataclass
from fairseq.models.hubert.hubert import HubertConfig
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import OmegaConf

from flea_fairseq.data.audio import SAMPLE_RATE
from flea_fairseq.inference.export import Exported
from flea_fairseq.inference.model_card import facts
from flea_fairseq.models.checkpoints import FACTS
from flea_fairseq.models.encoder import layer_normalised
from flea_fairseq.models.flea_classifier import FleaClassifier

FINAL_DIM = 256
HISTORY = {"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}  # fairseq reads it before anything else


def write_fairseq(model: FleaClassifier, checkpoint: Path, output: Path) -> Exported:
    """Write the encoder in fairseq's `hubert` model with its task, as tensors and plain values only.

    The prediction head, which extracting features does not read, is 0 and knows no labels.
    """
    shape = model.encoder.config
    state = {name: value.detach().cpu().clone() for name, value in model.encoder.state_dict().items()}
    state["final_proj.weight"] = torch.zeros(FINAL_DIM, shape.encoder_embed_dim)
    state["final_proj.bias"] = torch.zeros(FINAL_DIM)
    state["label_embs_concat"] = torch.zeros(0, FINAL_DIM)  # no labels: no dictionary, a class that loaders would run
    content: dict[str, Any] = {
        "cfg": _config(model), "args": None, "model": state,
        "task_state": {"dictionaries": []}, "optimizer_history": [HISTORY], "extra_state": {},
        FACTS: facts(model, checkpoint),
    }  # fmt: skip
    with open(output, "wb") as file:
        torch.save(content, file)
    (loaded,), _, _ = checkpoint_utils.load_model_ensemble_and_task([str(output)])
    loaded.eval()

    def source(waveform: np.ndarray) -> torch.Tensor:
        samples = torch.from_numpy(waveform)
        return (layer_normalised(samples) if model.normalize else samples)[None]

    @torch.inference_mode()
    def run(waveform: np.ndarray) -> np.ndarray:
        frames, _ = loaded.extract_features(source=source(waveform), padding_mask=None, mask=False)
        return frames[0].double().numpy()

    @torch.inference_mode()
    def reference(waveform: np.ndarray) -> np.ndarray:
        frames, _ = model.encoder(source(waveform).to(model.head.weight.device))
        return frames[0].double().cpu().numpy()

    return Exported(output, run, reference)


def _config(model: FleaClassifier) -> dict[str, Any]:
    """What fairseq makes the model and the task of."""
    shape = model.encoder.config
    values = {key: value for key, value in shape.to_dict().items() if key in HubertConfig.__dataclass_fields__}
    conv = "[" + ",".join(f"({dim},{kernel},{stride})" for dim, kernel, stride in shape.conv_layers) + "]"
    hubert = HubertConfig(**values, conv_feature_layers=conv, final_dim=FINAL_DIM, label_rate=50.0)
    task = HubertPretrainingConfig(data="", labels=[], label_rate=50.0, sample_rate=SAMPLE_RATE,
                                   normalize=model.normalize)  # fmt: skip
    named = {"model": (hubert, "hubert"), "task": (task, "hubert_pretraining")}
    return {"common": {"seed": 1, "fp16": False}, **{key: _values(*pair) for key, pair in named.items()}}


def _values(config: FairseqDataclass, name: str) -> dict[str, Any]:
    """A fairseq dataclass as plain values."""
    values: Any = OmegaConf.to_container(OmegaConf.structured(config), resolve=False, enum_to_str=True)
    return {**values, "_name": name}
