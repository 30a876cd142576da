"""What tests of several folders share: names, a tiny shape, and models as transformers saves them."""

import json
from pathlib import Path

import torch

CLASSES = ("angry", "happy", "neutral", "sad")
TINY_CONV = [(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32, 2, 2)] * 2


def hugging_face_config(layer_norm_mode: bool = False, kind: str = "hubert"):
    """transformers' config of a tiny encoder; dropouts off."""
    import transformers

    config = transformers.HubertConfig if kind == "hubert" else transformers.Wav2Vec2Config
    return config(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
        conv_dim=[c for c, _, _ in TINY_CONV], conv_kernel=[k for _, k, _ in TINY_CONV],
        conv_stride=[s for _, _, s in TINY_CONV], num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer" if layer_norm_mode else "group", conv_bias=layer_norm_mode,
        do_stable_layer_norm=False, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        feat_proj_dropout=0.0, layerdrop=0.0,
    )  # fmt: skip


def save_hugging_face(folder: Path, kind: str, layer_norm_mode: bool) -> Path:
    import transformers

    torch.manual_seed(3)
    model_class = transformers.HubertModel if kind == "hubert" else transformers.Wav2Vec2Model
    model_class(hugging_face_config(layer_norm_mode, kind)).eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": layer_norm_mode}))
    return folder
