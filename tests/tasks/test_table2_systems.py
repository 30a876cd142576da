"""The other systems of Table 2: their settings compose over the base config, and fairseq trains them."""

from pathlib import Path

import pytest
import torch
import yaml
from fairseq_runs import CONFIG, composed, finish, flat, start

from flea_fairseq.models.checkpoints import load_classifier, load_encoder
from flea_fairseq.models.pooling import CorrelationPooling, TemporalShiftPooling

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # hydra 1.3 asks for a version, which 1.0 does not take
SYSTEMS = ["shift", "superb", "attentive_statistics"]
SHORT = ["optimization.max_update=4", "dataset.batch_size=4", "dataset.num_workers=0", "optimization.lr=[0.01]"]


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_changes_keys_of_the_base_and_nothing_else(system):
    base, made = composed("finetune"), composed("finetune", f"+system={system}")
    own = flat(yaml.safe_load((CONFIG / f"system/{system}.yaml").read_text()))
    assert own and own.keys() <= base.keys() and made == {**base, **own}
    assert made["checkpoint.best_checkpoint_metric"] == "ua"
    key = "model.pooling_dropout"  # a command line wins over both
    assert composed("finetune", f"+system={system}", f"{key}=0.33") == {**base, **own, key: 0.33}


def test_the_systems_are_those_of_their_papers():
    shift, superb, statistics = (composed("finetune", f"+system={system}") for system in SYSTEMS)
    assert superb["model.pooling"] == "correlation" and superb["model.layers"] == "weighted"
    assert superb["model.freeze_encoder"] is True and superb["criterion.label_smoothing"] == 0.1
    assert superb["dataset.batch_size"] * superb["optimization.update_freq"][0] == 32
    assert superb["optimization.lr"] == [1e-4]
    assert (superb["optimization.max_update"], superb["optimization.max_epoch"]) == (30000, 0)
    assert shift["model.pooling"] == "temporal_shift" and shift["model.freeze_encoder"] is False
    assert shift["task.max_seconds"] == 7.5
    assert (shift["model.mask_prob"], shift["model.mask_length"]) == (0.08, 15)
    assert (shift["model.mask_channel_prob"], shift["model.mask_channel_length"]) == (0.05, 64)
    assert statistics["model.pooling"] == "attentive_statistics"


@pytest.fixture(scope="module")
def trained(fold_folder, hugging_face_folder, tmp_path_factory) -> dict[str, Path]:
    """Both systems after a few updates, trained side by side."""
    folders = {system: tmp_path_factory.mktemp(system) for system in ("superb", "shift")}
    init = f"model.init_checkpoint={hugging_face_folder}"
    finish(*(start("finetune", fold_folder, run, [f"+system={name}", init, *SHORT]) for name, run in folders.items()))
    return {system: folder / "checkpoint_best.pt" for system, folder in folders.items()}


@pytest.mark.parametrize("system, pooling", [("superb", CorrelationPooling), ("shift", TemporalShiftPooling)])
def test_fairseq_trains_it_and_its_checkpoint_does_not_hear_padding(trained, real_waveform, system, pooling):
    model = load_classifier(trained[system])
    assert type(model.pooling) is pooling and not model.training
    parts = [real_waveform[:30000], real_waveform[30000:47777], real_waveform[60000:61367]]
    batch = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    with torch.inference_mode():
        logits = model(batch, torch.tensor([len(part) for part in parts]))["logits"]
        assert logits.shape == (3, 4) and logits.isfinite().all()
        for row, part in zip(logits, parts):
            assert torch.allclose(row, model(part[None])["logits"][0], atol=1e-4)


def test_the_encoder_is_trained_by_shift_and_kept_by_superb(trained, hugging_face_folder):
    before = load_encoder(hugging_face_folder).state_dict()
    superb, shift = load_classifier(trained["superb"]), load_classifier(trained["shift"])
    assert all(torch.equal(value, before[name]) for name, value in superb.encoder.state_dict().items())
    assert superb.layer_logits.abs().min() > 0 and superb.freeze_encoder
    changed = {name for name, value in shift.encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert {"encoder.layers.0.fc1.weight", "encoder.layers.2.fc2.bias", "mask_emb"} <= changed
    assert shift.layer_logits is None and not any("feature_extractor" in name for name in changed)
