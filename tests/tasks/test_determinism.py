"""The same update again, on two threads of a CPU, gives the same bits: nothing depends on which thread is first."""

from pathlib import Path
from types import SimpleNamespace

import torch
from omegaconf import OmegaConf
from wav2vec2_models import SHAPE

from flea_fairseq.criterions.masked_prediction import MaskedPrediction
from flea_fairseq.models.flea_hubert import FleaHubertConfig, FleaHubertModel
from flea_fairseq.models.flea_wav2vec2 import FleaWav2Vec2Config, FleaWav2Vec2Model
from flea_fairseq.tasks.flea_pretraining import (
    FleaAudioPretrainingConfig,
    FleaAudioPretrainingTask,
    FleaPretrainingConfig,
    FleaPretrainingTask,
)


class Plain:
    """What a task asks of an optimiser in one step."""

    @staticmethod
    def backward(loss: torch.Tensor) -> None:
        loss.backward()


def assert_alike_every_time(task, model, criterion, sample: dict) -> None:
    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(6)
        task.train_step(sample, model, criterion, Plain, 0)
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    first = gradients()
    assert first
    for _ in range(3):
        assert all(map(torch.equal, first, gradients()))
    assert not torch.are_deterministic_algorithms_enabled()


def sample(**more) -> dict:
    """Two of four seconds: 199 frames."""
    source = torch.randn(2, 64000, generator=torch.Generator().manual_seed(1))
    return {"id": torch.arange(2), "net_input": {"source": source, "utterances": torch.arange(2)}, **more}


def made(kind, config, folder: Path):
    config.data, config.save_dir, config.seed, config.train_subset = str(folder), str(folder), 1, "ssl"
    return kind.setup_task(OmegaConf.structured(config))


def test_gradients_of_negatives_that_repeat_are_the_same_every_time(two_threads, tmp_path):
    """torch adds them up in the order in which its threads come, unless told not to."""
    task = made(FleaAudioPretrainingTask, FleaAudioPretrainingConfig(tpu=False), tmp_path)
    cfg = OmegaConf.structured(FleaWav2Vec2Config(**{**SHAPE, "encoder_layers": 1}, num_negatives=50, seed=1))
    model = FleaWav2Vec2Model.build_model(cfg, SimpleNamespace(cfg=SimpleNamespace()))
    model.targets = torch.nn.Parameter(torch.randn(1, 1000, 256))
    weights = torch.randn(50, 1, 1000, 256)

    def negatives(model, sample) -> tuple[torch.Tensor, int, dict]:
        return (model.sample_negatives(model.targets, 1000)[0] * weights).sum(), 1, {}

    assert_alike_every_time(task, model, negatives, sample())


def test_gradients_of_masked_prediction_are_the_same_every_time(two_threads, fold_folder, tmp_path):
    config = FleaPretrainingConfig(labels=["km50"], label_rate=50.0, label_dir=str(fold_folder))
    task = made(FleaPretrainingTask, config, tmp_path)
    shape = {key: value for key, value in SHAPE.items() if key not in ("quantize_targets", "latent_vars", "latent_dim")}
    cfg = OmegaConf.structured(FleaHubertConfig(**{**shape, "encoder_layers": 1}, label_rate=50.0, seed=1))
    units = torch.randint(4, 54, (2, 199), generator=torch.Generator().manual_seed(2))
    batch = sample(target_list=[units])
    assert_alike_every_time(
        task, FleaHubertModel(cfg, task.cfg, task.dictionaries), MaskedPrediction(task, 0.9, 10.0), batch
    )
