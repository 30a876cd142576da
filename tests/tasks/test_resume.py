"""A run killed with SIGKILL and started again ends with the weights of one that was not, alone or with another."""

import time
from pathlib import Path

import pytest
import torch
from fairseq_runs import FINETUNE, PRETRAIN, assert_equal_weights, finish, start, start_two, weights

from flea_fairseq.models.checkpoints import load_classifier
from flea_fairseq.models.repair import is_whole, repair_last


@pytest.fixture(scope="module")
def pretrained(fold_folder, tmp_path_factory) -> Path:
    """A run of `flea_pretraining` that nothing disturbed."""
    folder = tmp_path_factory.mktemp("pretrained")
    finish(start("pretrain", fold_folder, folder, [*PRETRAIN, "dataset.num_workers=1"]))
    return folder


@pytest.fixture(scope="module")
def finetuned(fold_folder, pretrained, tmp_path_factory) -> Path:
    """The same of `speech_emotion`."""
    folder = tmp_path_factory.mktemp("finetuned")
    finish(start("finetune", fold_folder, folder, finetune(pretrained)))
    return folder


def finetune(pretrained: Path) -> list[str]:
    return [*FINETUNE, f"model.init_checkpoint={pretrained / 'checkpoint_last.pt'}"]


def kill_in_the_middle(process, run_dir: Path) -> None:
    """SIGKILL once a checkpoint of an update in mid-epoch is there."""
    deadline = time.time() + 200
    while time.time() < deadline and process.poll() is None:
        if list(run_dir.glob("checkpoint_*_*.pt")) and (run_dir / "checkpoint_last.pt").exists():
            break
        time.sleep(0.002)
    assert process.poll() is None, (run_dir / "out.log").read_text()[-3000:]
    process.kill()
    process.wait()


def test_killed_pretraining_ends_with_the_same_weights(fold_folder, pretrained, tmp_path):
    """The two runs also have different numbers of data-loading processes."""
    kill_in_the_middle(start("pretrain", fold_folder, tmp_path, PRETRAIN), tmp_path)
    finish(start("pretrain", fold_folder, tmp_path, PRETRAIN))
    assert "Loaded checkpoint" in (tmp_path / "out.log").read_text()
    assert_equal_weights(tmp_path / "checkpoint_last.pt", pretrained / "checkpoint_last.pt")


def test_killed_finetuning_ends_with_the_same_weights(fold_folder, pretrained, finetuned, tmp_path):
    kill_in_the_middle(start("finetune", fold_folder, tmp_path, finetune(pretrained)), tmp_path)
    finish(start("finetune", fold_folder, tmp_path, finetune(pretrained)))
    assert "Loaded checkpoint" in (tmp_path / "out.log").read_text()
    assert_equal_weights(tmp_path / "checkpoint_last.pt", finetuned / "checkpoint_last.pt")


def test_a_classifier_is_loaded_from_its_file_alone(finetuned, pretrained, tmp_path):
    alone = tmp_path / "model.pt"
    alone.write_bytes((finetuned / "checkpoint_best.pt").read_bytes())
    hidden = pretrained / "checkpoint_last.pt"
    hidden.rename(hidden.with_suffix(".hidden"))
    try:
        model = load_classifier(alone)
    finally:
        hidden.with_suffix(".hidden").rename(hidden)
    parts = [torch.randn(9000), torch.randn(16001)]
    with torch.no_grad():
        batch = model(torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), torch.tensor([9000, 16001]))
        for i, part in enumerate(parts):
            assert torch.allclose(batch["logits"][i], model(part[None])["logits"][0], atol=1e-4)
    assert model.classes == ("angry", "happy", "neutral", "sad")


@pytest.mark.parametrize("phase", ["pretrain", "finetune"])
def test_two_processes_train(fold_folder, pretrained, finetuned, tmp_path, phase):
    """Both ends agree on every gradient (fairseq checks that itself), every utterance is scored once, and killed ones
    go on."""
    overrides = PRETRAIN if phase == "pretrain" else finetune(pretrained)
    overrides = [*overrides, "checkpoint.save_interval_updates=1"]  # an epoch has two
    finish(*start_two(phase, fold_folder, tmp_path / "whole", overrides))
    first, second = start_two(phase, fold_folder, tmp_path / "killed", overrides)
    kill_in_the_middle(first, tmp_path / "killed")
    second.kill()
    second.wait()
    finish(*start_two(phase, fold_folder, tmp_path / "killed", overrides))
    assert "Loaded checkpoint" in (tmp_path / "killed/out.log").read_text()
    assert_equal_weights(tmp_path / "killed/checkpoint_last.pt", tmp_path / "whole/checkpoint_last.pt")
    alone = weights((pretrained if phase == "pretrain" else finetuned) / "checkpoint_last.pt")
    together = weights(tmp_path / "whole/checkpoint_last.pt")
    assert any(not torch.equal(value, together[name]) for name, value in alone.items())
    assert all(value.isfinite().all() for value in together.values())


def test_a_half_written_checkpoint_is_replaced_by_the_newest_whole_one(pretrained, tmp_path, caplog):
    whole = (pretrained / "checkpoint_last.pt").read_bytes()
    (tmp_path / "checkpoint_1_6.pt").write_bytes(whole)
    (tmp_path / "checkpoint_last.pt").write_bytes(whole[: len(whole) // 2])
    assert not is_whole(tmp_path / "checkpoint_last.pt")
    repair_last(tmp_path)
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == whole
    assert "checkpoint_last.pt" in caplog.text and "checkpoint_1_6.pt" in caplog.text
    (tmp_path / "checkpoint_1_6.pt").unlink()
    (tmp_path / "checkpoint_last.pt").write_bytes(whole[: len(whole) // 2])
    repair_last(tmp_path)
    assert not (tmp_path / "checkpoint_last.pt").exists()
