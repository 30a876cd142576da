"""Losses that are no numbers: the training stops, the utterances are named, and what was there before stays."""

import re
import shutil

import numpy as np
import pytest
import soundfile
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.optim.adam import FairseqAdamConfig
from fairseq.optim.lr_scheduler.fixed_schedule import FixedLRScheduleConfig
from fairseq.trainer import Trainer
from fairseq_runs import FINETUNE, ROOT, tiny_pretraining
from omegaconf import OmegaConf
from support import TINY_CONV

from flea_fairseq.criterions.masked_prediction import MaskedPrediction
from flea_fairseq.data.manifest import read_manifest, utterance_id
from flea_fairseq.errors import ExperimentError
from flea_fairseq.models.flea_hubert import FleaHubertConfig, FleaHubertModel
from flea_fairseq.tasks.flea_pretraining import (
    FleaAudioPretrainingConfig,
    FleaAudioPretrainingTask,
    FleaPretrainingConfig,
    FleaPretrainingTask,
)
from flea_fairseq.workflow.train import train


def test_pretraining_names_the_utterance_whose_samples_are_no_numbers(fold_folder, tmp_path):
    """In any precision: in fp16 its batches would be taken for overflows, and left out without end."""
    fold = tmp_path / "fold"
    shutil.copytree(fold_folder, fold)
    for path in fold.glob("*.tsv"):
        path.write_text(path.read_text().replace(str(fold_folder), str(fold)))
    samples, rate = soundfile.read(fold / "utterance_ssl7.flac", dtype="float32")
    samples[len(samples) // 2] = np.nan
    soundfile.write(fold / "utterance_ssl7.flac", samples, rate, format="WAV", subtype="FLOAT")
    settings = [*tiny_pretraining(9), "task.max_sample_size=60000"]  # whole utterances
    with pytest.raises(
        ExperimentError, match=r"AudioError: .*utterance_ssl7.flac: holds samples that are not finite numbers; export"
    ):
        train(ROOT / "examples/config", "pretrain", fold, tmp_path / "model.pt", tmp_path / "run", labels=fold,
              label_sets=["km50"], settings=settings)  # fmt: skip
    assert not (tmp_path / "model.pt").exists()


def test_finetuning_that_diverges_names_the_batch_and_the_remedy(fold_folder, tmp_path):
    pretrained = train(ROOT / "examples/config", "pretrain", fold_folder, tmp_path / "a.pt", tmp_path / "a",
                       labels=fold_folder, label_sets=["km50"], settings=tiny_pretraining(1))  # fmt: skip
    (tmp_path / "model.pt").write_text("what was there before")
    settings = [*FINETUNE, "optimization.lr=[1e30]", "optimization.update_freq=[1]"]
    with pytest.raises(ExperimentError, match=r"update \d+: the loss is (nan|inf) for utterance_train.*lower opt") as e:
        train(ROOT / "examples/config", "finetune", fold_folder, tmp_path / "model.pt", tmp_path / "run",
              init=pretrained, settings=settings)  # fmt: skip
    assert len(re.findall(r"utterance_train\d+", str(e.value))) == 4  # the batch
    assert (tmp_path / "model.pt").read_text() == "what was there before"


@pytest.fixture
def fp16(fold_folder, tmp_path, monkeypatch) -> tuple[Trainer, dict]:
    """fairseq's trainer of a tiny HuBERT in fp16, on a CPU, and a batch.

    One thing keeps fairseq from that: of an update that it leaves out it notes the norm on a GPU.
    """
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    config = FleaPretrainingConfig(labels=["km50"], label_rate=50.0, max_sample_size=4000)
    config.data, config.save_dir, config.seed, config.train_subset = str(fold_folder), str(tmp_path), 1, "ssl"
    task = FleaPretrainingTask.setup_task(OmegaConf.structured(config))
    task.load_dataset("ssl")
    shape = FleaHubertConfig(
        encoder_layers=1, encoder_embed_dim=16, encoder_ffn_embed_dim=16, encoder_attention_heads=2, conv_pos=8,
        conv_pos_groups=2, conv_feature_layers=str(TINY_CONV), mask_length=4, label_rate=50.0, seed=1,
    )  # fmt: skip
    torch.manual_seed(1)
    model = FleaHubertModel(OmegaConf.structured(shape), task.cfg, task.dictionaries)
    cfg = OmegaConf.structured(FairseqConfig())
    cfg.model = {"_name": "flea_hubert"}
    cfg.checkpoint.save_dir = str(tmp_path)
    cfg.common.fp16 = cfg.common.fp16_no_flatten_grads = cfg.common.cpu = True
    cfg.common.fp16_init_scale = 2**24
    cfg.optimization.lr = [0.001]
    for part, kind in (("optimizer", FairseqAdamConfig), ("lr_scheduler", FixedLRScheduleConfig)):
        name = "adam" if part == "optimizer" else "fixed"
        cfg[part] = {**OmegaConf.to_container(OmegaConf.structured(kind)), "_name": name}
    dataset = task.datasets["ssl"]
    return Trainer(cfg, task, model, MaskedPrediction(task, 1.0, 10.0)), dataset.collater([dataset[3], dataset[7]])


def state(trainer: Trainer) -> list[torch.Tensor]:
    return [value.clone() for value in trainer.model.state_dict().values()]


def test_an_overflow_in_fp16_lowers_the_scale_leaves_the_update_out_and_goes_on(fp16):
    trainer, batch = fp16
    before, scaler, scales = state(trainer), trainer.optimizer.scaler, []
    while not trainer.get_num_updates():
        assert all(torch.equal(*pair) for pair in zip(before, state(trainer)))
        scales.append(scaler.loss_scale)
        trainer.train_step([batch])
    assert len(scales) > 3 and scales == [2**24 / 2**n for n in range(len(scales))]
    while trainer.get_num_updates() < 3:
        trainer.train_step([batch])
    after = state(trainer)
    assert all(value.isfinite().all() for value in after) and scaler.loss_scale >= 1
    assert not all(torch.equal(*pair) for pair in zip(before, after))


def test_a_loss_in_fp16_that_stays_no_number_names_the_utterances_when_the_scale_is_at_its_end(fp16):
    trainer, batch = fp16
    with torch.no_grad():
        trainer.model.label_embs_concat[0, 0] = torch.nan
    trainer.optimizer.scaler.loss_scale = 2.0**-9
    with pytest.raises(ExperimentError, match="update 1: the loss is nan for utterance_ssl3, utterance_ssl7; .*lower"):
        for _ in range(10):
            trainer.train_step([batch])
    assert trainer.optimizer.scaler.loss_scale <= 2 * trainer.cfg.common.min_loss_scale


@pytest.mark.parametrize(
    ("task", "config"),
    [
        (FleaPretrainingTask, FleaPretrainingConfig(labels=["km50"], label_rate=50.0)),
        (FleaAudioPretrainingTask, FleaAudioPretrainingConfig(tpu=False)),
    ],
)
def test_pretraining_names_utterances_as_the_manifest_does(fold_folder, task, config):
    """fairseq keeps names in two ways, one of them packed."""
    config.data, config.save_dir, config.seed, config.train_subset = str(fold_folder), str(fold_folder), 1, "ssl"
    made = task.setup_task(OmegaConf.structured(config))
    made.load_dataset("ssl")
    names = read_manifest(fold_folder / "ssl.tsv").names
    assert [made.datasets["ssl"].name_of(index) for index in range(len(names))] == [utterance_id(n) for n in names]
