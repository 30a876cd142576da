"""Stock fairseq on our files without any part of the plugin, and the stock task with our model and criterion."""

import json

import pytest
from fairseq_runs import PRETRAIN, finish, start, weights

NATIVE = {"task": "hubert_pretraining", "model": "hubert", "criterion": "hubert"}
OURS_ONLY = ["~model.init_checkpoint", "~model.fresh_head", "~model.head", "~model.precision",
             "~criterion.alpha", "~criterion.feature_penalty"]  # fmt: skip


def losses(run_dir) -> list[float]:
    """The training losses that fairseq logged, in bits."""
    lines = (run_dir / "out.log").read_text().splitlines()
    return [float(json.loads(line[line.index("{") :])["loss"]) for line in lines if "[train_inner]" in line]


@pytest.mark.parametrize("labels", ["[km50]", "[km50,km100]"])
def test_fairseqs_own_hubert_trains_on_our_files(fold_folder, tmp_path, labels):
    names = [f"{part}._name={name}" for part, name in NATIVE.items()]
    overrides = [*PRETRAIN, *names, *OURS_ONLY, "+criterion.loss_weights=[10.0]", "optimization.max_update=6",
                 f"task.labels={labels}"]  # fmt: skip
    finish(start("pretrain", fold_folder, tmp_path / "run", overrides, user_dir=False))
    found = losses(tmp_path / "run")
    assert len(found) == 6 and found[-1] < found[0]
    assert weights(tmp_path / "run/checkpoint_last.pt")["label_embs_concat"].size(0) == (
        54 if labels == "[km50]" else 158
    )


@pytest.mark.parametrize("labels", ["[km50]", "[km50,km100]"])
def test_the_stock_task_trains_our_model(fold_folder, tmp_path, labels):
    overrides = [*PRETRAIN, "task._name=hubert_pretraining", "optimization.max_update=6", f"task.labels={labels}"]
    finish(start("pretrain", fold_folder, tmp_path / "run", overrides))
    found = losses(tmp_path / "run")
    assert len(found) == 6 and found[-1] < found[0]
    text = (tmp_path / "run/out.log").read_text()
    assert "accuracy_masked_0" in text and ("accuracy_masked_1" in text) == ("100" in labels)
