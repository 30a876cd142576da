"""How an update is divided among processes, worked by hand."""

from pathlib import Path

import pytest
import torch
import yaml
from fairseq_runs import flat

from flea_fairseq.errors import ExperimentError
from flea_fairseq.workflow.launch import Launch, describe, launch_command, launch_settings, share

PRETRAIN = {"dataset.max_tokens": 1_400_000, "optimization.update_freq": [4], "task.max_sample_size": 250_000}
FINETUNE = {"dataset.batch_size": 64, "optimization.update_freq": [1]}


@pytest.mark.parametrize(
    ("processes", "micro", "tokens"),
    [(1, 4, 1_400_000), (2, 2, 1_400_000), (3, 2, 933_333), (4, 1, 1_400_000), (8, 1, 700_000)],
)
def test_audio_of_an_update_stays_four_times_87_seconds(processes, micro, tokens):
    shared = {**PRETRAIN, **share(PRETRAIN, processes)}
    assert (shared["optimization.update_freq"], shared["dataset.max_tokens"]) == ([micro], tokens)
    assert processes * micro * tokens == pytest.approx(4 * 87.5 * 16000, rel=1e-6)
    assert describe(PRETRAIN, share(PRETRAIN, processes), processes).endswith("= 350 s of audio")


@pytest.mark.parametrize(("processes", "utterances"), [(1, 64), (2, 32), (8, 8), (64, 1)])
def test_utterances_of_an_update_stay_64(processes, utterances):
    shared = {**FINETUNE, **share(FINETUNE, processes)}
    assert (shared["dataset.batch_size"], shared["optimization.update_freq"]) == (utterances, [1])


def test_micro_batches_are_never_larger_than_the_config_says():
    shared = share({"dataset.batch_size": 6, "optimization.update_freq": [4]}, 2)  # 12 each
    assert shared == {"dataset.batch_size": 6, "optimization.update_freq": [2]}
    shared = share({"dataset.batch_size": 5, "optimization.update_freq": [3]}, 1 + 2)
    assert shared == {"dataset.batch_size": 5, "optimization.update_freq": [1]}


def test_what_cannot_be_divided_is_refused_with_what_can():
    with pytest.raises(ExperimentError, match=r"64 utterances .* 3 processes; take one of 1, 2, 4, 8, 16, 32, 64$"):
        share(FINETUNE, 3)
    with pytest.raises(ExperimentError, match=r"175000 samples each, .* 250000; take 22 at most"):
        share(PRETRAIN, 32)
    assert share(PRETRAIN, 22)["dataset.max_tokens"] >= 250_000


def test_one_process_needs_nothing_and_cpus_need_gloo(monkeypatch):
    assert launch_settings(Launch()) == [] and launch_command(Launch())[-1] == "fairseq_cli.hydra_train"
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with pytest.raises(ExperimentError, match="MASTER_ADDR and MASTER_PORT, which are not set"):
        launch_settings(Launch(2, "srun"))
    monkeypatch.setenv("MASTER_ADDR", "node1")
    monkeypatch.setenv("MASTER_PORT", "12345")
    settings = launch_settings(Launch(2, "srun"))
    assert "distributed_training.distributed_world_size=2" in settings
    assert ("distributed_training.distributed_backend=gloo" in settings) == (not torch.cuda.is_available())
    with pytest.raises(ExperimentError, match="'mpirun', expected one of local, torchrun, srun"):
        launch_command(Launch(2, "mpirun"))


@pytest.mark.parametrize("way", ["torchrun", "srun"])
def test_flea_train_says_what_the_config_for_fairseqs_own_command_says(way, monkeypatch):
    """So nothing of a config folder's run/ is read; the number of processes is known here."""
    monkeypatch.setenv("MASTER_ADDR", "node1")
    monkeypatch.setenv("MASTER_PORT", "12345")
    config = yaml.safe_load((Path(__file__).resolve().parents[2] / f"examples/config/run/{way}.yaml").read_text())
    said = dict(setting.split("=", 1) for setting in launch_settings(Launch(2, way)))
    assert config.pop("defaults") == [{"override /hydra/job_logging": said.pop("hydra/job_logging")}]
    expected = {**flat(config), "distributed_training.distributed_world_size": 2}
    assert {
        key: yaml.safe_load(value) for key, value in said.items() if not key.endswith("distributed_backend")
    } == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_fairseqs_own_start_is_refused_on_cpus():
    with pytest.raises(ExperimentError, match="2 processes, but .* has 0; give --launch torchrun"):
        launch_settings(Launch(2))
