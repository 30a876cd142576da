"""`model.head=linear` of `flea_hubert`, P-TAPT's: its loss worked by hand, its warm starts, wav2vec 2.0 under it."""

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import OmegaConf
from support import TINY_CONV
from wav2vec2_models import fairseq_model, save_fairseq, save_hugging_face_pretraining

import flea_fairseq.tasks  # noqa: F401  registers the criterions
from flea_fairseq.criterions.masked_prediction import MaskedPrediction
from flea_fairseq.models.flea_hubert import FleaHubertConfig, FleaHubertModel

SHAPE = dict(
    label_rate=50.0, encoder_layers=3, encoder_embed_dim=64, encoder_ffn_embed_dim=128, encoder_attention_heads=4,
    conv_feature_layers=str(TINY_CONV), conv_pos=16, conv_pos_groups=4, final_dim=24, dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip


class Task:
    """What a model needs of its task."""

    def __init__(self, label_sets) -> None:
        self.cfg = HubertPretrainingConfig(sample_rate=16000, label_rate=50.0)
        self.dictionaries = [Dictionary() for _ in label_sets]
        for size, dictionary in zip(label_sets, self.dictionaries):
            for unit in range(size):
                dictionary.add_symbol(str(unit))


def build(label_sets=(8, 20), init="", head="linear", **changes) -> FleaHubertModel:
    cfg = FleaHubertConfig(**{**SHAPE, **changes}, head=head, init_checkpoint=str(init), seed=1)
    torch.manual_seed(0)
    return FleaHubertModel.build_model(OmegaConf.structured(cfg), Task(label_sets))


def save(model: FleaHubertModel, path):
    cfg = OmegaConf.to_container(OmegaConf.structured(FleaHubertConfig(**SHAPE, seed=1)), enum_to_str=True)
    torch.save({"cfg": {"model": cfg, "task": {"normalize": False}}, "model": model.state_dict()}, path)
    return path


def test_the_loss_is_the_sum_over_label_sets_of_torchs_cross_entropy_on_masked_frames():
    model = build().train()
    fixed = torch.rand(3, 51, generator=torch.Generator().manual_seed(7)) < 0.5
    model.apply_mask = lambda x, padding, targets: (torch.where(fixed[..., None], model.mask_emb, x), fixed)
    torch.manual_seed(1)
    source, padding = torch.randn(3, 16400), torch.zeros(3, 16400, dtype=torch.bool)
    labels = [torch.randint(0, size, (3, 51)) for size in (8, 20)]
    targets = [label + 4 for label in labels]  # fairseq's dictionary begins with four special symbols
    padding[1, 9000:] = True
    for target in targets:
        target[1, 27:] = 1  # so fairseq pads labels
    sample = {
        "id": torch.arange(3),
        "net_input": {"source": source, "padding_mask": padding},
        "target_list": targets,
    }
    loss, size, log = MaskedPrediction(None, 1.0, 0.0)(model, sample)
    loss.backward()

    chosen = fixed.clone()
    chosen[1, 27:] = False  # (9000 - 400) // 320 + 1
    assert (fixed & ~chosen)[1, 27:29].any()  # fairseq takes these two for true frames
    with torch.no_grad():
        x = model(source, targets, padding, features_only=True)["x"]
        expected = 0.0
        for head, label in zip(model.linear_heads, labels):
            scores = x[chosen] @ head.weight.T + head.bias
            expected -= (scores - scores.exp().sum(1, keepdim=True).log())[range(len(scores)), label[chosen]].sum()
    assert size == int(chosen.sum()) and log["count_m_1"] == size
    assert torch.allclose(loss, expected, rtol=1e-4)
    assert all(head.weight.grad.any() for head in model.linear_heads)
    assert model.encoder.layers[0].fc1.weight.grad.any()


def test_it_has_one_layer_a_label_set_and_nothing_of_the_cosine_head():
    names = {name for name, _ in build((8, 20)).named_parameters()}
    assert {name for name in names if name.startswith("linear")} == {
        f"linear_heads.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")
    }
    assert not names & {"final_proj.weight", "final_proj.bias", "label_embs_concat"}
    assert [head.weight.shape for head in build((8, 20)).linear_heads] == [(8, 64), (20, 64)]
    cosine = {name for name, _ in build((8, 20), head="cosine").named_parameters()}
    assert cosine - names == {"final_proj.weight", "final_proj.bias", "label_embs_concat"}


def test_the_head_is_kept_for_the_same_label_sets_and_drawn_anew_for_others(tmp_path):
    model = build((8, 20))
    torch.nn.init.constant_(model.linear_heads[1].bias, 3.0)
    path = save(model, tmp_path / "linear.pt")
    assert torch.equal(build((8, 20), path).linear_heads[1].bias, model.linear_heads[1].bias)
    for other in (build((8, 20), path, fresh_head=True), build((8, 21), path)):
        assert not (other.linear_heads[1].bias == 3).any()
        assert torch.equal(other.encoder.layers[2].fc1.weight, model.encoder.layers[2].fc1.weight)
    assert build((8, 20), path, head="cosine").label_embs_concat.shape == (8 + 4 + 20 + 4, 24)
    from_cosine = build((8, 20), save(build((8, 20), head="cosine"), tmp_path / "cosine.pt"))
    assert [head.weight.shape[0] for head in from_cosine.linear_heads] == [8, 20]


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("namespace", [True, False])
def test_wav2vec2_weights_of_fairseq_start_it(tmp_path, real_waveform, head, namespace):
    ours, peer = build(init=save_fairseq(tmp_path / "w2v.pt", namespace), head=head).eval(), fairseq_model().eval()
    source = real_waveform[None, :20000]
    with torch.no_grad():
        found = ours.extract_features(source, None)[0]
        assert torch.allclose(found, peer.extract_features(source, None)["x"], atol=1e-5)


def test_wav2vec2_weights_of_transformers_start_it(tmp_path, real_waveform):
    import transformers

    folder = save_hugging_face_pretraining(tmp_path / "hf")
    peer = transformers.Wav2Vec2Model.from_pretrained(folder).eval()
    source = real_waveform[None, :20000]
    with torch.no_grad():
        found = build(init=folder).eval().extract_features(source, None)[0]
        assert torch.allclose(found, peer(source).last_hidden_state, atol=1e-4)
