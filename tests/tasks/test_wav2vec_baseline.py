"""The baseline of Chen and Rudnicky as real runs: V-FT, TAPT and P-TAPT on tiny wav2vec 2.0 checkpoints."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from fairseq_runs import CONFIG, assert_equal_weights, composed, finish, flat, start, weights
from support import TINY_CONV
from wav2vec2_models import save_fairseq, save_hugging_face_pretraining

from flea_fairseq.models.checkpoints import load_classifier, load_encoder, load_tensors, read_checkpoint
from flea_fairseq.models.pooling import MeanPooling

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # hydra 1.3 asks for a version, which 1.0 does not take
SHAPE = [
    "model.encoder_layers=3", "model.encoder_embed_dim=64", "model.encoder_ffn_embed_dim=128", "model.conv_pos=16",
    "model.encoder_attention_heads=4", "model.conv_pos_groups=4", f"model.conv_feature_layers='{TINY_CONV}'",
]  # fmt: skip
SHORT = ["dataset.num_workers=0", "common.log_interval=1", "lr_scheduler.warmup_updates=2"]
V_FT = ["+system=chen_rudnicky", "optimization.max_epoch=2", "dataset.batch_size=5", *SHORT]
TAPT = [
    *SHAPE, *SHORT, "model.latent_vars=8", "model.latent_dim=24", "model.final_dim=20", "dataset.batch_size=5",
    "optimization.update_freq=[2]", "optimization.max_update=10", "checkpoint.save_interval_updates=2",
    "checkpoint.keep_interval_updates=9", "task.max_sample_size=12000", "optimization.lr=[0.001]",
    "model.num_negatives=5", "model.mask_prob=0.3", "model.mask_length=4",
]  # fmt: skip
P_TAPT = [
    "+system=p_tapt", *SHAPE, *SHORT, "task.labels=[km50,km100]", "task.pad_audio=true", "dataset.max_tokens=60000",
    "optimization.update_freq=[2]", "optimization.max_update=8", "optimization.lr=[0.002]", "model.mask_length=4",
    "model.mask_prob=0.5",
]  # fmt: skip


@pytest.mark.parametrize("config, system", [("finetune", "chen_rudnicky"), ("pretrain", "p_tapt")])
def test_a_system_changes_keys_of_the_base_and_nothing_else(config, system):
    base, own = composed(config), flat(yaml.safe_load((CONFIG / f"system/{system}.yaml").read_text()))
    assert own.keys() <= base.keys() and composed(config, f"+system={system}") == {**base, **own}


def test_the_settings_are_those_of_their_code():
    v_ft, p_tapt = composed("finetune", "+system=chen_rudnicky"), composed("pretrain", "+system=p_tapt")
    tapt = composed("wav2vec_pretrain")
    for made in (v_ft, tapt, p_tapt):
        assert made["optimization.lr"] == [1e-4] and made["optimizer.weight_decay"] == 0.0
        assert made["optimizer.adam_betas"] == "(0.9,0.999)" and made["dataset.disable_validation"] is True
    for made in (v_ft, tapt):
        assert made["dataset.batch_size"] * made["optimization.update_freq"][0] == 64
    assert v_ft["criterion.balanced"] and not v_ft["task.balance"] and v_ft["optimization.max_epoch"] == 15
    assert (v_ft["model.pooling"], v_ft["model.head_activation"]) == ("mean", "relu")
    for made in (tapt, p_tapt):
        assert made["optimization.max_update"] == 20000 and made["lr_scheduler.warmup_updates"] == 100
        assert made["task.max_sample_size"] == 160000 and made["task.min_sample_size"] is None
    assert p_tapt["dataset.max_tokens"] * p_tapt["optimization.update_freq"][0] == 250 * 16000
    assert (p_tapt["model.head"], p_tapt["criterion.alpha"], p_tapt["criterion.feature_penalty"]) == ("linear", 1, 0)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wav2vec2")
    return {
        "v_ft": save_fairseq(folder / "namespace.pt", True),
        "tapt": save_hugging_face_pretraining(folder / "hf"),
        "p_tapt": save_fairseq(folder / "config.pt", False),
    }


@pytest.fixture(scope="module")
def runs(fold_folder, checkpoints, tmp_path_factory) -> dict[str, Path]:
    """The three trainings, side by side."""
    folders = {name: tmp_path_factory.mktemp(name) for name in checkpoints}
    settings = {"v_ft": ("finetune", V_FT), "tapt": ("wav2vec_pretrain", TAPT), "p_tapt": ("pretrain", P_TAPT)}
    processes = []
    for name, (config, overrides) in settings.items():
        init = f"model.init_checkpoint={checkpoints[name]}"
        processes.append(start(config, fold_folder, folders[name], [*overrides, init]))
    finish(*processes)
    return folders


def logged(run_dir: Path, part: str = "train_inner") -> list[dict]:
    """What fairseq logged of each update."""
    lines = (run_dir / "out.log").read_text().splitlines()
    return [json.loads(line[line.index("{") :]) for line in lines if f"[{part}]" in line]


def changed(run_dir: Path, checkpoint: Path) -> set[str]:
    before, after = load_encoder(checkpoint).state_dict(), load_encoder(run_dir / "checkpoint_last.pt").state_dict()
    assert before.keys() == after.keys()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_v_ft_takes_the_last_epoch_of_a_classifier_as_theirs(runs, checkpoints):
    assert not (runs["v_ft"] / "checkpoint_best.pt").exists() and not logged(runs["v_ft"], "valid")
    model = load_classifier(runs["v_ft"] / "checkpoint_last.pt")
    assert type(model.pooling) is MeanPooling and type(model.activation) is torch.nn.ReLU
    different = changed(runs["v_ft"], checkpoints["v_ft"])
    assert "encoder.layers.2.fc2.weight" in different and not any("feature_extractor" in name for name in different)
    updates = [int(line["num_updates"]) for line in logged(runs["v_ft"])]
    assert updates[-1] == 2 * 3  # 24 utterances in batches of 5 and two batches an update, twice


def test_tapt_trains_encoder_cnn_and_quantizer_and_its_model_can_be_fine_tuned(runs, checkpoints):
    log = logged(runs["tapt"])
    assert [int(line["num_updates"]) for line in log] == list(range(1, 11))
    assert all(float(line["temp"]) == 2.0 and float(line["code_perplexity"]) > 1 for line in log)
    before, after = read_checkpoint(checkpoints["tapt"]), read_checkpoint(runs["tapt"] / "checkpoint_last.pt")
    assert before.encoder == after.encoder and before.head_state.keys() - after.head_state.keys() == set()
    for name in ("quantizer.vars", "project_q.weight", "final_proj.weight"):
        assert not torch.equal(before.head_state[name], after.head_state[name])
    different = changed(runs["tapt"], checkpoints["tapt"])
    assert {"encoder.layers.0.fc1.weight", "feature_extractor.conv_layers.3.0.weight", "mask_emb"} <= different
    assert sum(int(line["nsentences"]) for line in log if line["epoch"] == 1) == 24  # none is left out


def test_a_resumed_tapt_ends_with_the_same_weights(runs, checkpoints, fold_folder, tmp_path):
    """From the middle of the second epoch; crops, masks, dropped layers, negatives and codes are drawn alike."""
    shutil.copy(runs["tapt"] / "checkpoint_2_4.pt", tmp_path / "checkpoint_last.pt")
    shutil.copy(runs["tapt"] / "checkpoint_2_4.pt", tmp_path / "checkpoint_1_2.pt")
    with open(tmp_path / "checkpoint_last.pt", "r+b") as half:  # as after a kill while it was copied
        half.truncate(5000)
    finish(start("wav2vec_pretrain", fold_folder, tmp_path, [*TAPT, f"model.init_checkpoint={checkpoints['tapt']}"]))
    assert "is half-written" in (tmp_path / "out.log").read_text() and len(logged(tmp_path)) == 6
    assert_equal_weights(tmp_path / "checkpoint_last.pt", runs["tapt"] / "checkpoint_last.pt")


def test_p_tapt_learns_several_label_sets_and_its_model_can_be_fine_tuned(runs, checkpoints):
    log, state = logged(runs["p_tapt"]), weights(runs["p_tapt"] / "checkpoint_last.pt")
    assert state["linear_heads.0.weight"].shape == (50, 64) and state["linear_heads.1.weight"].shape == (100, 64)
    assert "label_embs_concat" not in state and "loss_features_pen" not in log[0]
    for i, line in enumerate(log):
        both = float(line["loss_m_0"]) + float(line["loss_m_1"])
        assert float(line["loss"]) == pytest.approx(both, abs=0.01), i
    assert float(log[-1]["loss"]) < float(log[0]["loss"])
    different = changed(runs["p_tapt"], checkpoints["p_tapt"])
    assert "encoder.layers.2.fc1.weight" in different and not any("feature_extractor" in name for name in different)
    assert load_tensors(runs["p_tapt"] / "checkpoint_last.pt")["cfg"]["model"]["head"] == "linear"


def test_fairseqs_own_wav2vec2_trains_on_our_files(fold_folder, tmp_path):
    overrides = [*TAPT, "task._name=audio_pretraining", "model._name=wav2vec2", "~model.init_checkpoint",
                 "optimization.max_update=4"]  # fmt: skip
    finish(start("wav2vec_pretrain", fold_folder, tmp_path, overrides, user_dir=False))
    log = logged(tmp_path)
    assert len(log) == 4 and sum(int(line["nsentences"]) for line in log if line["epoch"] == 1) == 24
