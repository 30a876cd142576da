"""wav2vec of the first kind against fairseq's own Wav2VecModel."""

from argparse import Namespace

import numpy as np
import pytest
import soundfile
import torch
from fairseq.models.wav2vec.wav2vec import Wav2VecConfig, Wav2VecModel
from omegaconf import OmegaConf

from flea_fairseq.clustering.extract import extract
from flea_fairseq.data.manifest import Manifest, write_manifest
from flea_fairseq.errors import CheckpointError
from flea_fairseq.models.checkpoints import load_encoder, load_tensors, read_checkpoint

SHAPE = dict(
    conv_feature_layers="[(24, 10, 5), (24, 8, 4), (24, 4, 2), (24, 4, 2), (24, 4, 2), (24, 1, 1)]",
    conv_aggregator_layers="[(24, 2, 1), (24, 3, 1), (32, 4, 1)] + [(32, 5, 1)] * 2",
    infonce=False,
)  # fmt: skip
NEWER = ("activation", "vq_type", "non_affine_group_norm", "offset", "project_features")  # than wav2vec_large.pt


def peer_model(**changes) -> Wav2VecModel:
    torch.manual_seed(2)
    model = Wav2VecModel(OmegaConf.structured(Wav2VecConfig(**{**SHAPE, **changes}))).eval()
    for module in model.modules():  # fairseq's own start at 1 and 0
        if isinstance(module, torch.nn.GroupNorm) and module.weight is not None:
            torch.nn.init.normal_(module.weight, 1.0, 0.3), torch.nn.init.normal_(module.bias, 0.0, 0.3)
    return model


def save(path, model: Wav2VecModel, **changes):
    """The layout of wav2vec_large.pt, as it was: a namespace that lacks what later versions added."""
    values = OmegaConf.to_container(OmegaConf.structured(Wav2VecConfig(**{**SHAPE, **changes})), enum_to_str=True)
    args = Namespace(arch="wav2vec", **{name: value for name, value in values.items() if name not in NEWER})
    torch.save({"args": args, "model": model.state_dict(), "extra_state": {"epoch": 3}}, path)
    return path


VARIANTS = [
    {"skip_connections_feat": True},
    {"log_compression": False, "skip_connections_agg": False, "agg_zero_pad": True, "no_conv_bias": True},
]


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("samples, heard, frames", [  # 465 samples a frame, every 320: zeros for the last one
    (400, 465, 1), (464, 465, 1), (465, 465, 1), (719, 719, 1), (720, 785, 2), (784, 785, 2), (800, 800, 2),
    (9359, 9359, 28), (9360, 9425, 29), (16000, 16000, 49),
])  # fmt: skip
def test_frames_are_every_second_one_of_fairseqs(tmp_path, real_waveform, changes, samples, heard, frames):
    peer = peer_model(**changes)
    encoder = load_encoder(save(tmp_path / "w2v.pt", peer, **changes))
    source = real_waveform[None, 30000 : 30000 + samples]
    whole = torch.cat([source, torch.zeros(1, heard - samples)], dim=1)
    with torch.no_grad():
        features = peer.feature_extractor(whole)
        expected = peer.feature_aggregator(features)[0, :, : 2 * frames : 2].T
        x, count = encoder(source, layer=1)
        states, _ = encoder.hidden_states(source)
    assert frames == (samples - 400) // 320 + 1 and x.shape == (1, frames, 32) and count.tolist() == [frames]
    assert torch.allclose(x[0], expected, atol=1e-5) and torch.equal(states[1], x)
    assert torch.allclose(states[0][0], features[0, :, : 2 * frames : 2].T, atol=1e-5)


def test_flea_extract_takes_it_as_a_model_of_one_layer(tmp_path):
    rng, lengths = np.random.default_rng(0), (400, 5000, 5001, 5039)
    for i, length in enumerate(lengths):
        soundfile.write(tmp_path / f"{i}.wav", rng.normal(0, 0.1, length), 16000, subtype="FLOAT")
    names = tuple(f"{i}.wav" for i in range(len(lengths)))
    write_manifest(tmp_path / "ssl.tsv", Manifest(tmp_path, names, lengths))
    path = save(tmp_path / "w2v.pt", peer_model())
    folder = extract(tmp_path / "ssl.tsv", tmp_path / "features", path, [1])[0]
    found = np.load(next(folder.glob("*.npy")), allow_pickle=False)
    assert found.shape == (sum((n - 400) // 320 + 1 for n in lengths), 32)
    with pytest.raises(CheckpointError, match="layer 9 asked for, but the model has layers 1 to 1"):
        extract(tmp_path / "ssl.tsv", tmp_path / "other", path, [9])


def test_a_config_of_fairseqs_newer_kind_is_read_too(tmp_path):
    model = peer_model()
    values = OmegaConf.to_container(OmegaConf.structured(Wav2VecConfig(**SHAPE)), enum_to_str=True)
    config = OmegaConf.create({"model": {**values, "_name": "wav2vec"}, "task": {"normalize": False}})
    torch.save({"cfg": config, "model": model.state_dict()}, tmp_path / "new.pt")
    one, other = load_encoder(tmp_path / "new.pt"), load_encoder(save(tmp_path / "old.pt", model))
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert one.fingerprint and one.fingerprint != other.fingerprint


def test_networks_of_other_kinds_are_refused(tmp_path):
    path = save(tmp_path / "w2v.pt", peer_model())
    with pytest.raises(CheckpointError, match="w2v.pt: wav2vec of the first kind.*flea extract"):
        read_checkpoint(path)
    content = load_tensors(path)
    wrong = {
        "aggregator=gru": {"aggregator": "gru"},
        "vq_type=gumbel": {"vq_type": "gumbel"},
        "320 samples, expected 160": {"conv_feature_layers": "[(24, 10, 5), (24, 8, 4), (24, 4, 4), (24, 4, 4)]"},
        "conv_aggregator_layers": {"conv_aggregator_layers": f"__import__('os').mkdir('{tmp_path / 'created'}')"},
        "do not fit": {"conv_aggregator_layers": "[(24, 2, 1)]"},
    }  # fmt: skip
    for message, changes in wrong.items():
        torch.save({**content, "args": Namespace(**{**vars(content["args"]), **changes})}, tmp_path / "wrong.pt")
        with pytest.raises(CheckpointError, match=message):
            load_encoder(tmp_path / "wrong.pt")
    assert not (tmp_path / "created").exists()
