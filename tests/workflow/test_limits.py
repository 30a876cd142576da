"""Time limits: what Slurm's times mean, when fairseq has to stop, and how 'stopped' is told from 'finished'."""

import pytest
from fairseq_runs import ROOT, assert_equal_weights, tiny_pretraining

from flea_fairseq.errors import ExperimentError
from flea_fairseq.workflow import limits
from flea_fairseq.workflow.launch import Launch
from flea_fairseq.workflow.limits import (
    Progress,
    StoppedForTime,
    parse_time_left,
    read_progress,
    save_interval,
    seconds_to_train,
    time_limits,
    unfinished,
)
from flea_fairseq.workflow.train import train

INTERVAL, STOP = "checkpoint.save_interval_updates", "optimization.stop_time_hours"
BY_UPDATES = {INTERVAL: 500, "dataset.disable_validation": True}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("59", 59), ("1:02", 62), ("2:00:03", 7203), ("1-00:00:01", 86401), ("UNLIMITED", None), ("INVALID", None)],
)
def test_slurms_times(text, seconds):
    assert parse_time_left(text) == seconds


def test_a_margin_is_left_for_starting_and_saving():
    assert seconds_to_train(3600, 120) == 3480
    assert seconds_to_train(60) == 30 and seconds_to_train(86400) == 86400 - 240
    with pytest.raises(ExperimentError, match="100 s are left of this job, and 120 s"):
        seconds_to_train(100, 120)


def test_the_time_of_earlier_jobs_counts():
    begun = Progress(updates=100, seconds=7200)
    assert time_limits(begun, {}, 3480) == {STOP: pytest.approx((7200 + 3480) / 3600, abs=1e-6)}
    assert time_limits(begun, {}, None) == time_limits(None, {}, None) == {}


def test_five_minutes_are_at_stake():
    assert save_interval(Progress(updates=60, seconds=120.0), 500) == 150
    assert save_interval(Progress(updates=60, seconds=120.0), 100) == 100  # never more seldom than the config says
    assert save_interval(Progress(updates=1, seconds=1000.0), 500) == 1
    assert time_limits(Progress(60, 1, 120.0), BY_UPDATES, None) == {INTERVAL: 150}
    assert time_limits(Progress(60, 1, 120.0), {**BY_UPDATES, "dataset.disable_validation": False}, None) == {}
    assert time_limits(Progress(60, 1, 120.0), {INTERVAL: 0, "dataset.disable_validation": True}, None) == {}


def test_a_first_trial_tells_the_speed():
    trial = {STOP: pytest.approx(120 / 3600, abs=1e-6)}
    assert time_limits(None, BY_UPDATES, None) == trial == time_limits(None, BY_UPDATES, 3600)
    assert time_limits(None, BY_UPDATES, 200) == {STOP: pytest.approx(200 / 3600, abs=1e-6)}  # not worth it


@pytest.mark.parametrize(
    ("updates", "epoch", "optimization", "left"),
    [
        (20, 3, {"max_update": 20, "max_epoch": 0}, None),
        (19, 3, {"max_update": 20, "max_epoch": 0}, "update 19 of 20"),
        (7, 3, {"max_update": 0, "max_epoch": 2}, None),
        (7, 2, {"max_update": 0, "max_epoch": 2}, "epoch 2 of 2"),
        (20, 2, {"max_update": 20, "max_epoch": 9}, None),
    ],
)
def test_finished_is_told_by_updates_and_epochs(updates, epoch, optimization, left):
    history, iterator = [{"num_updates": updates}], {"epoch": epoch}
    extra = {"train_iterator": iterator, "previous_training_time": 360.5}
    progress = read_progress({"optimizer_history": history, "extra_state": extra})
    values = {f"optimization.{name}": value for name, value in optimization.items()}
    assert unfinished(progress, values, {STOP: 0.1}) == left
    assert unfinished(progress, values, {STOP: 0.2}) is None  # its time was not up: fairseq ended for another reason


def pretrain(fold, folder, settings, **how):
    return train(ROOT / "examples/config", "pretrain", fold, folder / "model.pt", folder / "run", labels=fold,
                 label_sets=["km50"], settings=settings, **how)  # fmt: skip


def test_a_training_stopped_for_time_goes_on_to_the_same_weights(fold_folder, tmp_path, monkeypatch):
    """Stopped by fairseq itself in mid-training after half a second of it, as often as it takes; and after a trial."""
    more = [*tiny_pretraining(12), f"{INTERVAL}=50", "common.log_interval=1"]
    whole = pretrain(fold_folder, tmp_path / "whole", more)
    stops = []
    for _ in range(60):
        try:
            pretrain(fold_folder, tmp_path / "parts", more, time_limit=1.5, margin=1.0)
            break
        except StoppedForTime as error:
            assert error.status == 75 and not (tmp_path / "parts/model.pt").exists()
            stops.append(str(error))
    assert stops and "of 12; the same command goes on" in stops[0]
    assert_equal_weights(tmp_path / "parts/model.pt", whole)
    monkeypatch.setattr(limits, "TRIAL", 0.5)
    assert_equal_weights(pretrain(fold_folder, tmp_path / "tried", more), whole)
    assert (tmp_path / "tried/run/train.log").read_text().count("Loaded checkpoint") == 1


def test_other_processes_cannot_go_on(fold_folder, tmp_path):
    """fairseq would take up another place of the epoch."""
    settings = [*tiny_pretraining(400), "task.max_sample_size=12000"]
    with pytest.raises(StoppedForTime):
        pretrain(fold_folder, tmp_path, settings, time_limit=1.5, margin=1.0)
    checkpoint = (tmp_path / "run/checkpoint_last.pt").read_bytes()
    with pytest.raises(ExperimentError, match="was begun with --processes 1, and can only go on with as many"):
        pretrain(fold_folder, tmp_path, settings, launch=Launch(2, "torchrun"))
    assert (tmp_path / "run/checkpoint_last.pt").read_bytes() == checkpoint
