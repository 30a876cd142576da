"""HuBERT-base with random weights, as fairseq's and transformers' files: speed does not depend on what they learned."""

from pathlib import Path

import torch


def write_hubert(path: Path, clusters: int = 500, seed: int = 1, **shape: object) -> Path:
    """Write fairseq's native HuBERT checkpoint; shape: keys of its HubertConfig that differ from the base model's."""
    from fairseq.data.dictionary import Dictionary
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
    from omegaconf import OmegaConf

    torch.manual_seed(seed)
    labels = Dictionary()
    for unit in range(clusters):
        labels.add_symbol(str(unit))
    task = HubertPretrainingConfig(data="", labels=["km"], label_rate=50.0, sample_rate=16000)
    config = HubertConfig(label_rate=50.0, **shape)
    model = HubertModel(config, task, [labels])
    values = OmegaConf.to_container(OmegaConf.structured(config), resolve=False, enum_to_str=True)
    task_values = OmegaConf.to_container(OmegaConf.structured(task), resolve=False, enum_to_str=True)
    stored = {"model": {**values, "_name": "hubert"}, "task": {**task_values, "_name": "hubert_pretraining"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    history = {"criterion_name": "hubert", "optimizer_name": "adam", "lr_scheduler_state": {}, "num_updates": 0}
    rest = {"args": None, "task_state": {"dictionaries": [labels]}, "optimizer_history": [history], "extra_state": {}}
    torch.save({"cfg": stored, "model": model.state_dict(), **rest}, path)
    return path
