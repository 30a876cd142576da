"""`flea train`: fairseq in its own process; what is kept, what is cleared, and what an error says."""

import json
import sys

import numpy as np
import pytest
import torch
from fairseq_runs import ROOT, tiny_pretraining
from sklearn.metrics import balanced_accuracy_score

from flea_fairseq.data.files import holding
from flea_fairseq.errors import ExperimentError
from flea_fairseq.evaluation.calibrate import fit_temperature
from flea_fairseq.evaluation.evaluate import evaluate
from flea_fairseq.models.checkpoints import load_classifier, load_tensors
from flea_fairseq.workflow.fairseq_run import run_fairseq
from flea_fairseq.workflow.launch import HYDRA_TRAIN
from flea_fairseq.workflow.train import _is_finished, _keep_or_clear, train


def test_a_model_without_its_optimiser_is_written(fold_folder, tmp_path):
    train(ROOT / "examples/config", "pretrain", fold_folder, tmp_path / "model.pt", tmp_path / "run",
          labels=fold_folder, label_sets=["km50"], settings=tiny_pretraining(2))  # fmt: skip
    content = load_tensors(tmp_path / "model.pt")
    assert "last_optimizer_state" not in content and content["cfg"]["model"]["encoder_embed_dim"] == 16
    assert [path.name for path in (tmp_path / "run").glob("*.pt")] == ["model.pt"] and (
        tmp_path / "run/train.log"
    ).exists()
    written = (tmp_path / "model.pt").stat().st_mtime_ns
    again = dict(labels=fold_folder, label_sets=["km50"], settings=tiny_pretraining(2))
    train(ROOT / "examples/config", "pretrain", fold_folder, tmp_path / "model.pt", tmp_path / "run", **again)
    assert (tmp_path / "model.pt").stat().st_mtime_ns == written  # of the same inputs: kept
    (tmp_path / "model.pt").unlink()  # as Snakemake does when a job is ended after its last line
    log = (tmp_path / "run/train.log").read_bytes()
    train(ROOT / "examples/config", "pretrain", fold_folder, tmp_path / "model.pt", tmp_path / "run", **again)
    assert (tmp_path / "model.pt").stat().st_mtime_ns == written and (tmp_path / "run/train.log").read_bytes() == log
    record, damaged = json.loads((tmp_path / "run/inputs.json").read_text()), tmp_path / "damaged.pt"
    assert record.pop("processes") == 1
    assert _is_finished(tmp_path / "run", record, tmp_path / "model.pt")
    damaged.write_bytes((tmp_path / "model.pt").read_bytes()[:-1])
    assert _is_finished(tmp_path / "run", record, damaged)  # put in place of the damaged one
    assert damaged.read_bytes() == (tmp_path / "model.pt").read_bytes()
    (tmp_path / "run/model.pt").write_bytes(b"damaged")  # which is the others' file too
    assert not _is_finished(tmp_path / "run", record, tmp_path / "model.pt")
    assert not _is_finished(tmp_path / "run", {**record, "settings": ["other"]}, tmp_path / "model.pt")


def test_a_classifier_carries_what_prediction_needs(fold_folder, hugging_face_folder, tmp_path):
    """One file: calibrated, and with its provenance; validation scores are scikit-learn's."""
    quick = ["optimization.max_epoch=2", "optimization.update_freq=[1]", "dataset.num_workers=0", "common.seed=5"]
    model = train(ROOT / "examples/config", "finetune", fold_folder, tmp_path / "model.pt", tmp_path / "run",
                  init=hugging_face_folder, settings=quick)  # fmt: skip
    facts = load_classifier(model).facts
    assert (facts["sample_rate"], facts["seed"], facts["corpus"]) == (16000, 5, fold_folder.name)
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0] and "revision" in facts
    said = evaluate(model, fold_folder / "valid.tsv", tmp_path / "predictions.tsv")
    assert facts["validation"]["utterances"] == 13 and 0 <= facts["validation"]["ece"] <= 1
    assert facts["validation"]["ua"] == pytest.approx(balanced_accuracy_score(said.truth, said.predicted))
    logits = facts["temperature"] * np.log(said.probabilities)
    expected = fit_temperature(logits, np.array([said.classes.index(label) for label in said.truth]))
    assert facts["temperature"] == pytest.approx(expected, rel=1e-3)


def test_what_our_code_says_is_shown(fold_folder, tmp_path, capsys):
    train(ROOT / "examples/config", "pretrain", fold_folder, tmp_path / "a.pt", tmp_path / "a",
          labels=fold_folder, label_sets=["km50"], settings=tiny_pretraining(1))  # fmt: skip
    assert "prediction head" not in capsys.readouterr().err
    fresh = [*tiny_pretraining(1), "model.fresh_head=true"]
    train(ROOT / "examples/config", "pretrain", fold_folder, tmp_path / "b.pt", tmp_path / "b", init=tmp_path / "a.pt",
          labels=fold_folder, label_sets=["km50"], settings=fresh)  # fmt: skip
    assert "\nnew prediction head with 54 classes\n" in capsys.readouterr().err.replace("\r", "\n")


def test_an_error_names_the_log_and_the_reason(fold_folder, tmp_path):
    (tmp_path / "model.pt").write_text("what was there before")
    with pytest.raises(ExperimentError, match=r"train.log: fairseq ended with status 1: .*no_such_key"):
        train(ROOT / "examples/config", "pretrain", fold_folder, tmp_path / "model.pt", tmp_path / "run",
              settings=["model.no_such_key=1"])  # fmt: skip
    assert (tmp_path / "model.pt").read_text() == "what was there before"
    with pytest.raises(ExperimentError, match="no such config"):
        train(ROOT / "examples/config", "pretrian", fold_folder, tmp_path / "model.pt", tmp_path / "run")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("model.context=0.05", r"finetune: model.context is 0.05, expected 0 \(all\) or 0.08 to 3600"),
        ("criterion.consistency=-1", "finetune: criterion.consistency is -1, expected a number of 0 or more"),
        ("criterion.consistency=1", "finetune: criterion.consistency is 1, but .* give flea train --labels FOLDER"),
        ("criterion.consistency=1 model.pooling=correlation", "criterion.consistency: model.pooling is correlation"),
    ],
)
def test_what_a_classifier_cannot_be_is_refused_before_anything_is_made(fold_folder, tmp_path, settings, said):
    with pytest.raises(ExperimentError, match=said):
        train(ROOT / "examples/config", "finetune", fold_folder, tmp_path / "model.pt", tmp_path / "run",
              labels=fold_folder if "pooling" in settings else None, settings=settings.split())  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_checkpoints_of_other_inputs_are_not_resumed_from(tmp_path):
    run_dir = tmp_path / "run"
    _keep_or_clear(run_dir, {"settings": ["a=1"]}, 1)
    (run_dir / "checkpoint_last.pt").write_text("x")
    _keep_or_clear(run_dir, {"settings": ["a=1"]}, 1)
    assert (run_dir / "checkpoint_last.pt").exists()
    _keep_or_clear(run_dir, {"settings": ["a=2"]}, 1)
    assert not (run_dir / "checkpoint_last.pt").exists()


def test_a_folder_with_other_peoples_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ExperimentError, match="no training's"):
        _keep_or_clear(tmp_path, {"settings": []}, 1)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


ABORTED = (
    "import atexit, os, runpy; atexit.register(os.abort); runpy.run_module({!r}, run_name='__main__', alter_sys=True)"
)


def test_a_training_that_is_aborted_as_python_ends_is_done(fold_folder, tmp_path, monkeypatch):
    """A thread of fairseq's may do so; to abort it before its last checkpoint is an error, as the log of now says."""
    command = [sys.executable, "-c", ABORTED.format(HYDRA_TRAIN)]
    monkeypatch.setattr("flea_fairseq.workflow.train.launch_command", lambda launch: command)
    model = train(ROOT / "examples/config", "pretrain", fold_folder, tmp_path / "model.pt", tmp_path / "run",
                  labels=fold_folder, label_sets=["km50"], settings=tiny_pretraining(2))  # fmt: skip
    log = tmp_path / "run/train.log"
    assert load_tensors(model)["cfg"]["model"]["encoder_embed_dim"] == 16 and "done training" in log.read_text()
    with holding(tmp_path / "lock", "") as lock, pytest.raises(ExperimentError, match="with status -6: no output"):
        run_fairseq([sys.executable, "-c", "import os; os.abort()"], log.parent, {}, lock)


def test_a_job_that_is_killed_after_the_last_update_adds_none(fold_folder, tmp_path, monkeypatch):
    quick = dict(labels=fold_folder, label_sets=["km50"], settings=tiny_pretraining(2))
    where = (ROOT / "examples/config", "pretrain", fold_folder, tmp_path / "model.pt", tmp_path / "run")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("flea_fairseq.workflow.train._finish", killed)
        train(*where, **quick)
    log, last = ((tmp_path / "run" / name).read_bytes() for name in ("train.log", "checkpoint_last.pt"))
    (tmp_path / "last.pt").write_bytes(last)
    model = load_tensors(train(*where, **quick))["model"]
    assert (tmp_path / "run/train.log").read_bytes() == log  # fairseq was not started
    assert all(torch.equal(model[name], value) for name, value in load_tensors(tmp_path / "last.pt")["model"].items())


def test_of_several_processes_the_error_that_came_first_is_told(tmp_path):
    """The other process ends by the loss of its peer, and may say so later; what an earlier run logged is not read."""
    log = tmp_path / "train.log"
    log.write_text("ValueError: of a run before\n")
    said = "KeyError: the cause", "torch.distributed.DistNetworkError: Connection closed by peer [127.0.0.1]:1"
    for lines, told in ((said, "KeyError: the cause$"), (said[1:], "Connection closed by peer"), (("so",), "so$")):
        program = "; ".join(f"print({line!r})" for line in lines) + "; exit(3)"
        with holding(tmp_path / "lock", "") as lock, pytest.raises(ExperimentError, match=f"with status 3: .*{told}"):
            run_fairseq([sys.executable, "-c", program], tmp_path, {}, lock)
