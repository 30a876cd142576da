"""Losses that are no numbers: the training stops, the utterances are named, and what was there before stays."""

import re
import shutil

import numpy as np
import pytest
import soundfile
from fairseq_runs import FINETUNE, ROOT, tiny_pretraining
from omegaconf import OmegaConf

from flea_fairseq.data.manifest import read_manifest, utterance_id
from flea_fairseq.errors import ExperimentError
from flea_fairseq.tasks.flea_pretraining import (
    FleaAudioPretrainingConfig,
    FleaAudioPretrainingTask,
    FleaPretrainingConfig,
    FleaPretrainingTask,
)
from flea_fairseq.workflow.train import train


def test_pretraining_names_the_utterance_whose_samples_are_no_numbers(fold_folder, tmp_path):
    """fairseq itself reads the audio there, and passes them on."""
    fold = tmp_path / "fold"
    shutil.copytree(fold_folder, fold)
    for path in fold.glob("*.tsv"):
        path.write_text(path.read_text().replace(str(fold_folder), str(fold)))
    samples, rate = soundfile.read(fold / "utterance_ssl7.flac", dtype="float32")
    samples[len(samples) // 2] = np.nan
    soundfile.write(fold / "utterance_ssl7.flac", samples, rate, format="WAV", subtype="FLOAT")
    settings = [*tiny_pretraining(9), "task.max_sample_size=60000"]  # whole utterances
    with pytest.raises(
        ExperimentError, match=r"update \d+: the loss is nan for samples that are no numbers in utt"
    ) as e:
        train(ROOT / "examples/config", "pretrain", fold, tmp_path / "model.pt", tmp_path / "run", labels=fold,
              label_sets=["km50"], settings=settings)  # fmt: skip
    assert re.findall(r"utterance_\w+", str(e.value)) == ["utterance_ssl7"]
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
