"""Tiny wav2vec 2.0 models with their quantizer, in the layouts that are met."""

import json
from argparse import Namespace
from pathlib import Path

import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from omegaconf import OmegaConf
from support import TINY_CONV, hugging_face_config

SHAPE = dict(
    encoder_layers=3, encoder_embed_dim=64, encoder_ffn_embed_dim=128, encoder_attention_heads=4, conv_pos=16,
    conv_pos_groups=4, conv_feature_layers=str(TINY_CONV), quantize_targets=True, latent_vars=8, latent_dim=24,
    final_dim=20, latent_temp=(2.0, 2.0, 1.0), dropout=0.0, attention_dropout=0.0,
)  # fmt: skip


def fairseq_model(**changes) -> Wav2Vec2Model:
    """fairseq's own model of that shape."""
    torch.manual_seed(4)
    return Wav2Vec2Model(OmegaConf.structured(Wav2Vec2Config(**{**SHAPE, **changes})))


def save_fairseq(path: Path, namespace: bool) -> Path:
    """As wav2vec_small.pt: one namespace of strings in older files, an omegaconf config in newer ones."""
    model = fairseq_model()
    values = {**OmegaConf.to_container(model.cfg, enum_to_str=True), "_name": "wav2vec2"}
    if namespace:
        config = {"args": Namespace(arch="wav2vec2", task="audio_pretraining", normalize=False, **values)}
    else:
        task = {"normalize": False, "data": "/gone"}
        config = {"args": None, "cfg": OmegaConf.create({"model": values, "task": task})}
    torch.save({**config, "model": model.state_dict(), "optimizer_history": [{"num_updates": 3}]}, path)
    return path


def save_hugging_face_pretraining(folder: Path) -> Path:
    """As transformers saves facebook/wav2vec2-base, with the heads of its pretraining."""
    import transformers

    config = hugging_face_config(kind="wav2vec2")
    config.update({"num_codevectors_per_group": 8, "codevector_dim": 24, "proj_codevector_dim": 20})
    torch.manual_seed(5)
    transformers.Wav2Vec2ForPreTraining(config).eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    return folder
