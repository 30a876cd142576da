"""Stretches of a long recording against the whole, decoded at once."""

import numpy as np
import pytest
import soundfile

from flea_fairseq.data.audio import read_audio
from flea_fairseq.data.long_audio import LongAudio
from flea_fairseq.errors import AudioError


@pytest.fixture(scope="module", params=[("wav", 16000, 1), ("flac", 44100, 2), ("wav", 8000, 1), ("ogg", 48000, 1)])
def recording(request, tmp_path_factory):
    suffix, rate, channels = request.param
    path = tmp_path_factory.mktemp("long") / f"r.{suffix}"
    noise = np.random.default_rng(0).standard_normal((int(45.3 * rate), channels)).cumsum(0)
    with soundfile.SoundFile(path, "w", rate, channels) as file:  # libsndfile crashes on long Vorbis written at once
        for block in np.array_split(0.5 * noise / np.abs(noise).max(), 100):
            file.write(block)
    return path


def test_blocks_are_the_whole(recording):
    whole = read_audio(recording)
    audio = LongAudio(recording)
    assert audio.samples == len(whole)
    blocks = [audio.read(start, min(start + 320000, audio.samples)) for start in range(0, audio.samples, 320000)]
    assert np.allclose(np.concatenate(blocks), whole, atol=2e-6)


def test_any_stretch_is_that_of_the_whole(recording):
    whole, audio = read_audio(recording), LongAudio(recording)
    for start, stop in [(0, 400), (7, 31000), (123457, 323457), (len(whole) - 401, len(whole))]:
        assert np.allclose(audio.read(start, stop), whole[start:stop], atol=2e-6)


def test_what_is_not_whole_audio_is_refused(tmp_path):
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(AudioError, match="text.wav: not audio"):
        LongAudio(tmp_path / "text.wav")
    soundfile.write(tmp_path / "nan.wav", np.full(9000, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match="not finite"):
        LongAudio(tmp_path / "nan.wav").read(0, 9000)
