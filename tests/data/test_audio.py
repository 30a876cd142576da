import math
import struct

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from flea_fairseq.data.audio import AudioInfo, frame_count, probe_audio, read_audio
from flea_fairseq.errors import AudioError

HUBERT_CNN = [(10, 5)] + [(3, 2)] * 4 + [(2, 2)] * 2  # (kernel, stride) of the seven layers


def noise(samples, channels=1):
    return np.random.default_rng(1).integers(-20000, 20000, (samples, channels)).astype(np.int16)


def sine(hertz, seconds, sample_rate):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * sample_rate)) / sample_rate)


def reason(path):
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_16_khz_mono_is_read_bit_exactly(tmp_path, suffix):
    written = noise(5000)[:, 0]
    soundfile.write(tmp_path / f"a.{suffix}", written, 16000)
    read = read_audio(tmp_path / f"a.{suffix}")
    assert read.dtype == np.float32 and read.shape == (5000,)
    assert np.array_equal(read * 32768, written)


def test_channels_are_averaged(tmp_path):
    written = noise(1000, channels=2)
    soundfile.write(tmp_path / "a.wav", written, 16000)
    assert np.allclose(read_audio(tmp_path / "a.wav"), written.astype(float).mean(axis=1) / 32768, atol=1e-7)


@pytest.mark.parametrize("sample_rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone_and_agrees_with_scipy(tmp_path, sample_rate):
    soundfile.write(tmp_path / "a.wav", sine(440, 0.51, sample_rate), sample_rate, subtype="FLOAT")
    read = read_audio(tmp_path / "a.wav")
    assert len(read) == math.ceil(int(0.51 * sample_rate) * 16000 / sample_rate)
    inner = slice(400, 7600)  # filters ring at the ends
    assert np.abs(read - sine(440, 1, 16000)[: len(read)])[inner].max() < 0.005
    common = math.gcd(sample_rate, 16000)
    scipys = resample_poly(sine(440, 0.51, sample_rate), 16000 // common, sample_rate // common)
    assert np.abs(read - scipys[: len(read)])[inner].max() < 0.01


def test_resampling_removes_what_16_khz_cannot_hold(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(12000, 0.5, 48000), 48000, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav")[400:7600]).max() < 0.01  # without a filter: a tone at 4 kHz, 0.5


def test_probe_reports_the_header(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(4800, channels=2), 48000)
    assert probe_audio(tmp_path / "a.flac") == AudioInfo(frames=4800, sample_rate=48000, channels=2)


def test_missing_file_and_folder(tmp_path):
    assert "no such audio file" in reason(tmp_path / "a.wav")
    assert "no such audio file" in reason(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "a.wav").touch()
    assert "0 bytes" in reason(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.raw", "a.txt"])
def test_text_is_not_audio(tmp_path, name):
    (tmp_path / name).write_text("this is no audio\n" * 100)
    assert "not audio" in reason(tmp_path / name)


def test_header_without_samples(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16000)
    assert "no samples" in reason(tmp_path / "a.wav")


@pytest.mark.parametrize("missing", [1, 2, 1000, 9998])
def test_truncated_wav(tmp_path, missing):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(5000), 16000)
    path.write_bytes(path.read_bytes()[:-missing])
    assert "truncated" in reason(path)


def test_truncated_wav_with_a_chunk_before_the_samples(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(5000), 16000)
    whole = path.read_bytes()
    note = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"  # odd size: one byte of padding follows
    path.write_bytes(whole[:36] + note + whole[36:])
    assert len(read_audio(path)) == 5000
    path.write_bytes((whole[:36] + note + whole[36:])[:-100])
    assert "truncated" in reason(path)


def test_wav_written_to_a_pipe_is_not_called_truncated(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(5000), 16000)
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + b"\xff\xff\xff\xff" + whole[44:])
    assert len(read_audio(path)) == 5000


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9, 0.99])
def test_truncated_flac(tmp_path, part):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(30000), 16000)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    assert "truncated" in reason(path)
    with pytest.raises(AudioError, match="truncated"):
        probe_audio(path)


def test_flac_damaged_in_the_middle(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(30000), 16000)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 8000] = bytes(8000)
    path.write_bytes(whole)
    reason(path)


def test_not_a_number(tmp_path):
    samples = np.zeros(1000, np.float32)
    samples[500] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert "not finite" in reason(tmp_path / "a.wav")


def test_frame_count_is_that_of_the_seven_convolutions():
    for samples in [*range(0, 2000), 32000, 250000]:
        frames = samples
        for kernel, stride in HUBERT_CNN:
            frames = max(0, (frames - kernel) // stride + 1)
        assert frame_count(samples) == frames


def test_frame_count_of_a_published_feature_file():
    assert frame_count(190800) == 596  # fairseq's own HuBERT test: this utterance has 596 units
