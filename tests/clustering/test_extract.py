import numpy as np
import pytest
import soundfile
import torch
import torchaudio
import transformers

from flea_fairseq.clustering.embedding import mfcc_features
from flea_fairseq.clustering.extract import extract
from flea_fairseq.clustering.features import Source, read_features
from flea_fairseq.data.audio import frame_count
from flea_fairseq.data.files import sha256
from flea_fairseq.data.manifest import Manifest, write_manifest
from flea_fairseq.errors import AudioError, CheckpointError, ExperimentError


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, real_waveform):
    """Five pieces of real speech, the last one a single frame long."""
    folder = tmp_path_factory.mktemp("speech")
    lengths = (16000, 9000, 12345, 20001, 400)
    for i, length in enumerate(lengths):
        soundfile.write(folder / f"u{i}.wav", real_waveform[20000 * i : 20000 * i + length], 16000, subtype="FLOAT")
    write_manifest(folder / "ssl.tsv", Manifest(folder, tuple(f"u{i}.wav" for i in range(5)), lengths))
    return folder / "ssl.tsv"


def test_mfcc_are_every_second_frame_of_fairseqs_recipe(real_waveform):
    """examples/hubert/simple_kmeans/dump_mfcc_feature.py, its defaults written out, and differences by hand."""
    base = torchaudio.compliance.kaldi.mfcc(
        real_waveform[None], sample_frequency=16000.0, use_energy=False, num_ceps=13, num_mel_bins=23, dither=0.0,
        frame_length=25.0, frame_shift=10.0, snip_edges=True, low_freq=20.0, high_freq=0.0, cepstral_lifter=22.0,
    ).numpy()  # fmt: skip

    def difference(x):  # regression over two frames to each side, the ends repeated
        padded = np.pad(x, ((2, 2), (0, 0)), mode="edge").astype(np.float64)
        n = len(x)
        return sum(k * (padded[2 + k : 2 + k + n] - padded[2 - k : 2 - k + n]) for k in (1, 2)) / 10

    deltas = difference(base)
    expected = np.concatenate([base, deltas, difference(deltas)], axis=1)[::2]
    features = mfcc_features(real_waveform.numpy())
    assert features.shape == (596, 39) and features.dtype == np.float32
    assert np.allclose(features, expected, atol=2e-3)
    assert np.array_equal(features[:, :13], base[::2])


def test_mfcc_have_as_many_frames_as_hubert(real_waveform):
    speech = real_waveform.numpy()
    for samples in [*range(400, 1400, 13), 719, 720, 721, 1039, 1040, 15999, 16000, 16079, 16080, 16081, 50000, 190800]:
        assert len(mfcc_features(speech[:samples])) == frame_count(samples) == (samples - 400) // 320 + 1


def test_extract_writes_the_shards_of_a_manifest(tmp_path, manifest):
    for shard in range(2):
        assert extract(manifest, tmp_path, mfcc=True, shard=shard, shards=2) == [tmp_path / "mfcc"]
    paths = [tmp_path / "mfcc" / name for name in ("ssl_0_2.npy", "ssl_1_2.npy")]
    features = read_features(tmp_path / "mfcc", "ssl", 2)
    assert features.source == Source("mfcc", None) and features.lengths.tolist() == [49, 27, 38, 62, 1]
    for i, frames in enumerate(features.utterances()):
        samples, _ = soundfile.read(manifest.parent / f"u{i}.wav", dtype="float32")
        assert np.array_equal(frames, mfcc_features(samples))
    extract(manifest, tmp_path / "whole", mfcc=True)
    whole = np.load(tmp_path / "whole/mfcc/ssl_0_1.npy")
    assert np.array_equal(whole, np.concatenate([np.load(path) for path in paths]))


@pytest.mark.parametrize(("shard", "shards", "problem"), [
    (2, 2, "shard 2 of 2"), (-1, 2, "shard -1 of 2"), (0, 6, "6 shards of 5 recordings"),
])  # fmt: skip
def test_a_shard_that_cannot_be_is_refused(tmp_path, manifest, shard, shards, problem):
    with pytest.raises(ExperimentError, match=problem):
        extract(manifest, tmp_path, mfcc=True, shard=shard, shards=shards)
    assert not list(tmp_path.iterdir())


def test_layers_of_one_pass_equal_transformers_utterance_by_utterance(tmp_path, manifest, hugging_face_folder):
    assert extract(manifest, tmp_path, hugging_face_folder, layers=[2, 3]) == [tmp_path / "l2", tmp_path / "l3"]
    peer = transformers.HubertModel.from_pretrained(hugging_face_folder).eval()
    for layer in (2, 3):
        features = read_features(tmp_path / f"l{layer}", "ssl")
        assert features.source == Source(sha256(hugging_face_folder / "model.safetensors"), layer)
        for i, frames in enumerate(features.utterances()):
            samples, _ = soundfile.read(manifest.parent / f"u{i}.wav", dtype="float32")
            with torch.no_grad():
                hidden = peer(torch.from_numpy(samples)[None], output_hidden_states=True).hidden_states
            assert np.allclose(frames, hidden[layer][0].numpy(), atol=2e-5)


@pytest.mark.parametrize("layer", [0, 4])
def test_a_layer_that_the_model_does_not_have(tmp_path, manifest, hugging_face_folder, layer):
    with pytest.raises(CheckpointError, match=f"layer {layer} asked for, but the model has layers 1 to 3"):
        extract(manifest, tmp_path, hugging_face_folder, layers=[2, layer])


@pytest.mark.parametrize(
    "choice",
    [{}, {"mfcc": True, "layers": [3]}, {"mfcc": True, "checkpoint": "m.pt", "layers": [3]}, {"checkpoint": "m.pt"}],
)
def test_one_kind_of_feature_must_be_asked_for(tmp_path, manifest, choice):
    with pytest.raises(ExperimentError, match="a checkpoint and layers, or --mfcc"):
        extract(manifest, tmp_path, **choice)


def test_recordings_unlike_the_manifest_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(3000, np.float32), 16000)
    write_manifest(tmp_path / "ssl.tsv", Manifest(tmp_path, ("a.wav",), (3200,)))
    with pytest.raises(AudioError, match=r"a\.wav: 3000 samples at 16 kHz, the manifest says 3200"):
        extract(tmp_path / "ssl.tsv", tmp_path / "features", mfcc=True)
    write_manifest(tmp_path / "ssl.tsv", Manifest(tmp_path, ("a.wav",), (399,)))
    with pytest.raises(AudioError, match=r"a\.wav: 399 samples, fewer than one frame's 400"):
        extract(tmp_path / "ssl.tsv", tmp_path / "features", mfcc=True)
    assert not list((tmp_path / "features").rglob("*.npy"))
