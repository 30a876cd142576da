"""Silent, constant and clipped utterances, and those of one frame: every model's loss and gradients are numbers."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
from omegaconf import OmegaConf
from support import CLASSES, TINY_CONV, save_hugging_face
from wav2vec2_models import SHAPE as WAV2VEC2

from flea_fairseq.criterions.masked_prediction import MaskedPrediction
from flea_fairseq.models.encoder import layer_normalised
from flea_fairseq.models.flea_classifier import FleaClassifier, FleaClassifierConfig
from flea_fairseq.models.flea_hubert import FleaHubertConfig, FleaHubertModel
from flea_fairseq.models.flea_wav2vec2 import FleaWav2Vec2Config, FleaWav2Vec2Model
from flea_fairseq.models.pooling import POOLINGS

NOISE = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(1))
AUDIO = {
    "silent": torch.zeros(1600),
    "constant": torch.full((1600,), 0.4),
    "clipped": NOISE[:1600].sign(),
    "one frame": NOISE[:400],
    "one silent frame": torch.zeros(400),
}
HUBERT = dict(
    label_rate=50.0, encoder_layers=2, encoder_embed_dim=32, encoder_ffn_embed_dim=32, encoder_attention_heads=4,
    conv_feature_layers=str(TINY_CONV), conv_pos=16, conv_pos_groups=4, final_dim=24, mask_prob=0.8, mask_length=10,
)  # fmt: skip
UNITS = 5


@pytest.fixture(scope="module", params=[("hubert", False), ("wav2vec2", True)], ids=["group norm", "layer norm"])
def encoder_folder(tmp_path_factory, request):
    """The second wants waveforms of zero mean and unit variance."""
    return save_hugging_face(tmp_path_factory.mktemp("encoder") / "hf", *request.param)


def assert_finite_gradients(model, loss) -> None:
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients and [name for name, gradient in gradients.items() if not gradient.isfinite().all()] == []


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_classifier_learns_from_them_alone_and_beside_speech(encoder_folder, pooling):
    cfg = FleaClassifierConfig(init_checkpoint=str(encoder_folder), pooling=pooling, freeze_cnn=False, mask_prob=0.5,
                               mask_channel_prob=0.2, layers="weighted", seed=1)  # fmt: skip
    model = FleaClassifier.build_model(OmegaConf.structured(cfg), SimpleNamespace(classes=CLASSES)).train()
    for waveforms in (*([audio] for audio in AUDIO.values()), [NOISE, *AUDIO.values()]):
        heard = [layer_normalised(waveform) if model.normalize else waveform for waveform in waveforms]
        lengths = torch.tensor([len(waveform) for waveform in heard])
        model.zero_grad()
        said = model(torch.nn.utils.rnn.pad_sequence(heard, batch_first=True), lengths, torch.arange(len(heard)))
        assert said["logits"].isfinite().all() and torch.allclose(said["attention"].sum(1), torch.ones(len(heard)))
        assert_finite_gradients(model, torch.nn.functional.cross_entropy(said["logits"], lengths % len(CLASSES)))


def dictionary() -> Dictionary:
    made = Dictionary()
    for unit in range(UNITS):
        made.add_symbol(str(unit))
    return made


def masked_prediction(model, source: torch.Tensor, frames: int, alpha: float = 1.0) -> tuple[torch.Tensor, int, dict]:
    """The loss of a batch, its frames, and its log."""
    sample = {
        "id": torch.arange(len(source)),
        "net_input": {"source": source, "padding_mask": torch.zeros_like(source, dtype=torch.bool)},
        "target_list": [torch.randint(4, 4 + UNITS, (len(source), frames))],
    }
    return MaskedPrediction(None, alpha, 10.0)(model.train(), sample)


@pytest.mark.parametrize("head", ["cosine", "linear"])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
def test_masked_prediction_of_clips_shorter_than_a_mask(head, frames):
    """Spans of 10 frames are cut to leave one; of a single frame nothing is masked, and the loss is 0."""
    model = FleaHubertModel(OmegaConf.structured(FleaHubertConfig(**HUBERT, head=head, seed=1)),
                            HubertPretrainingConfig(label_rate=50.0), [dictionary()])  # fmt: skip
    samples = 80 + 320 * frames
    for source in (NOISE[:samples], torch.zeros(samples), torch.full((samples,), 0.4), NOISE[:samples].sign()):
        model.zero_grad()
        loss, size, log = masked_prediction(model, source.repeat(2, 1), frames)
        assert size == log["count_m_0"] == 2 * (frames - 1) and loss.isfinite() and bool(loss) == (frames > 1)
        MaskedPrediction.reduce_metrics([log])
        assert_finite_gradients(model, loss)
    loss, size, _ = masked_prediction(model, source.repeat(2, 1), frames, alpha=0.5)
    assert size == 2 * frames and loss > 0  # what is not masked counts


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
def test_fairseqs_own_model_stops_on_such_clips_or_gives_a_number(frames):
    """Some versions refuse to mask all of a clip, the others do; ours leaves a frame (test_masking.py)."""
    model = HubertModel(OmegaConf.structured(HubertConfig(**HUBERT)), HubertPretrainingConfig(label_rate=50.0),
                        [dictionary()])  # fmt: skip
    try:
        loss, *_ = masked_prediction(model, NOISE[: 80 + 320 * frames].repeat(2, 1), frames)
    except ValueError as error:
        assert "mask" in str(error)
    else:
        assert loss.isfinite()


@pytest.mark.parametrize("kind", ["silent", "constant", "clipped"])
def test_contrastive_pretraining_of_them(kind):
    """Clips of one or two frames are refused by their length: test_flea_wav2vec2.py."""
    cfg = FleaWav2Vec2Config(**WAV2VEC2, num_negatives=5, seed=1)
    model = FleaWav2Vec2Model.build_model(OmegaConf.structured(cfg), SimpleNamespace(cfg=SimpleNamespace())).train()
    said = model(AUDIO[kind].repeat(2, 1), utterances=torch.arange(2))
    logits, targets = model.get_logits(said).float(), model.get_targets(None, said)
    assert len(logits)
    extra = sum(value for value in model.get_extra_losses(said) if torch.is_tensor(value))
    assert_finite_gradients(model, torch.nn.functional.cross_entropy(logits, targets) + extra)
