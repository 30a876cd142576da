"""Frozen convolutions whose output is kept: the same as transformers', in files that fit nothing else."""

import threading

import pytest
import soundfile
import torch
import transformers

from flea_fairseq.data.cnn_cache import has_frames, read_frames
from flea_fairseq.errors import AudioError, ExperimentError
from flea_fairseq.models.checkpoints import load_encoder
from flea_fairseq.models.encoder import Encoder
from flea_fairseq.models.frozen_cnn import FrozenCnn, cnn_key


@pytest.fixture
def encoder(hugging_face_folder) -> Encoder:
    made = load_encoder(hugging_face_folder)
    made.freeze_cnn()
    return made


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> list:
    folder, generator = tmp_path_factory.mktemp("audio"), torch.Generator().manual_seed(1)
    for i, samples in enumerate((9000, 12345, 16000)):
        soundfile.write(folder / f"{i}.flac", torch.randn(samples, generator=generator).numpy() * 0.1, 16000)
    return sorted(folder.iterdir())


def waveform(path, samples: int) -> torch.Tensor:
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0][:samples])


def fill(cnn: FrozenCnn, paths: list, samples: list[int]) -> list:
    return cnn.fill("train", paths, samples, lambda i: waveform(paths[i], samples[i]))


def test_files_hold_transformers_features_in_full_precision(encoder, recordings, hugging_face_folder, tmp_path):
    cnn = FrozenCnn(encoder, tmp_path)
    encoder.half()  # as fairseq does after the model is built
    samples = [9000, 10000, 16000]
    peer = transformers.HubertModel.from_pretrained(hugging_face_folder).feature_extractor.eval()
    for path, count, file in zip(recordings, samples, fill(cnn, recordings, samples)):
        with torch.no_grad():
            expected = peer(waveform(path, count)[None])[0].T
        frames = read_frames(file)
        assert frames.dtype == torch.float32 and frames.shape == expected.shape
        assert torch.allclose(frames, expected, atol=1e-5)


def test_only_what_is_missing_or_damaged_is_made(encoder, recordings, tmp_path, caplog):
    caplog.set_level("INFO")
    cnn = FrozenCnn(encoder, tmp_path)
    first = fill(cnn, recordings[:2], [9000, 12345])
    bytes_a_file = [4 * 32 * frames + 4096 for frames in (27, 38)]
    assert f"2 are to be computed, {sum(bytes_a_file) / 1024:.1f} KiB" in caplog.text
    first[1].write_bytes(first[1].read_bytes()[:-4])
    before = [file.stat().st_ino for file in first]
    caplog.clear()
    files = fill(cnn, recordings, [9000, 12345, 16000])
    assert files[:2] == first and "3 utterances" in caplog.text and "1 are to be computed" in caplog.text
    assert [file.stat().st_ino == node for file, node in zip(first, before)] == [True, False]
    assert has_frames(first[1], (38, 32))
    assert sorted(files) == sorted(cnn.folder.iterdir()) and str(first[1]) in caplog.text
    caplog.clear()
    fill(cnn, recordings, [9000, 12345, 16000])
    assert "0 are to be computed" in caplog.text and not [r for r in caplog.records if r.levelname == "WARNING"]


def test_the_key_is_weights_shape_audio_and_crop(encoder, recordings, hugging_face_folder, tmp_path):
    cnn, other = FrozenCnn(encoder, tmp_path), load_encoder(hugging_face_folder)
    assert cnn_key(other) == cnn.folder.name
    with torch.no_grad():
        other.encoder.layers[0].fc1.bias.add_(1)  # no part of the convolutions
        assert cnn_key(other) == cnn.folder.name
        other.feature_extractor.conv_layers[2][0].weight[0, 0, 0] += 1e-3
    assert cnn_key(other) != cnn.folder.name
    (copy := tmp_path / "copy.flac").write_bytes(recordings[1].read_bytes())
    paths = [recordings[1], copy, recordings[1], recordings[0]]
    a, b, shorter, another = fill(cnn, paths, [9000, 9000, 8999, 9000])
    assert a == b and len({a, shorter, another}) == 3


def test_fillings_at_the_same_time_end_with_whole_files(encoder, recordings, tmp_path):
    results = []
    workers = [
        threading.Thread(
            target=lambda: results.append(fill(FrozenCnn(encoder, tmp_path), recordings, [9000, 12345, 16000]))
        )
        for _ in range(4)
    ]
    [worker.start() for worker in workers], [worker.join() for worker in workers]
    assert len(results) == 4 and all(files == results[0] for files in results)
    assert sorted((tmp_path / cnn_key(encoder)).iterdir()) == sorted(results[0])


def test_too_small_a_disk_is_said_before_anything_is_written(encoder, recordings, tmp_path):
    cnn = FrozenCnn(encoder, tmp_path)
    with pytest.raises(ExperimentError, match="train needs .* GiB more, but .* are free"):
        fill(cnn, recordings, [9000, 12345, 10**17])
    assert not list(cnn.folder.iterdir())


def test_a_recording_unlike_its_manifest_is_named(encoder, recordings, tmp_path):
    with pytest.raises(AudioError, match=r"1.flac: 12345 samples at 16 kHz, the manifest says 12346"):
        fill(FrozenCnn(encoder, tmp_path), recordings[:2], [9000, 12346])


def test_convolutions_that_are_trained_are_refused(hugging_face_folder, tmp_path):
    with pytest.raises(ExperimentError, match="model.freeze_cnn=false"):
        FrozenCnn(load_encoder(hugging_face_folder), tmp_path)
