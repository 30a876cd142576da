import threading

import numpy as np
import pytest
import soundfile

from flea_fairseq.clustering import recordings
from flea_fairseq.clustering.recordings import Recording, batches, read_recordings, waveforms
from flea_fairseq.data.manifest import Manifest, write_manifest
from flea_fairseq.errors import AudioError


def seconds(*lengths):
    return [Recording(f"{i}.wav", int(16000 * length)) for i, length in enumerate(lengths)]


def test_batches_are_of_like_length_and_hold_their_padding():
    alone = seconds(3, 1, 2)
    assert batches(alone, 0) == [[recording] for recording in alone]
    a, b, c, d, e = seconds(1, 4, 2, 2, 9)
    assert batches([a, b, c, d, e], 8) == [[e], [b, c], [d, a]]  # 2 x 4 s are full with padding; 9 s are too much
    assert batches([a, b, c, d, e], 9) == [[e], [b, c], [d, a]]
    assert batches([a, b, c, d, e], 12) == [[e], [b, c, d], [a]]
    assert batches([], 8) == []


@pytest.fixture
def noise(tmp_path):
    """Twelve files of 1000, 1001, ... samples, each of its own constant."""
    for i in range(12):
        soundfile.write(tmp_path / f"{i}.wav", np.full(1000 + i, i / 16, np.float32), 16000, subtype="FLOAT")
    names = tuple(f"{i}.wav" for i in range(12))
    write_manifest(tmp_path / "ssl.tsv", Manifest(tmp_path, names, tuple(range(1000, 1012))))
    return read_recordings(tmp_path / "ssl.tsv")


@pytest.mark.parametrize("ahead", [1, 3500, 10**6])
def test_waveforms_come_in_order_and_not_too_far_ahead(noise, monkeypatch, ahead):
    begun, lock, read_listed = [], threading.Lock(), recordings.read_listed

    def counting(path, samples):
        with lock:
            begun.append(path)
        return read_listed(path, samples)

    monkeypatch.setattr(recordings, "AHEAD", ahead)
    monkeypatch.setattr(recordings, "read_listed", counting)
    for i, samples in enumerate(waveforms(noise)):
        assert len(samples) == 1000 + i and (samples == np.float32(i / 16)).all()
        assert len(begun) <= i + {1: 1, 3500: 3, 10**6: 12}[ahead]
    assert i == 11 and sorted(begun) == sorted(recording.path for recording in noise)


def test_the_file_that_cannot_be_read_is_named_in_its_turn(noise):
    noise[3].path.write_bytes(b"RIFF")
    noise[5].path.unlink()
    given = waveforms(noise)
    assert [len(next(given)) for _ in range(3)] == [1000, 1001, 1002]
    with pytest.raises(AudioError, match=r"3\.wav"):
        next(given)
