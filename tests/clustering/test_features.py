import json

import numpy as np
import pytest
from support import write_features

from flea_fairseq.clustering.features import Source, read_features
from flea_fairseq.data.audio import frame_count
from flea_fairseq.data.manifest import read_units, write_units
from flea_fairseq.errors import FormatError

SOURCE = Source("ab" * 32, 9)


def utterances(lengths, dim=3):
    rng = np.random.default_rng(sum(lengths))
    return [rng.standard_normal((length, dim)).astype(np.float32) for length in lengths]


def refused(folder, shards=1):
    with pytest.raises(FormatError) as caught:
        read_features(folder, "train", shards)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_features_come_back_over_shards(tmp_path):
    lengths = [4, 1, 7, 2, 5]
    written = utterances(lengths)
    for shard, rows in enumerate((slice(0, 2), slice(2, 5))):
        path = write_features(tmp_path, "train", shard, 2, lengths[rows], iter(written[rows]), SOURCE)
        assert path == tmp_path / f"train_{shard}_2.npy"
        assert np.array_equal(np.load(path), np.concatenate(written[rows]))
        assert np.loadtxt(path.with_suffix(".len"), dtype=int).tolist() == lengths[rows]
        assert json.loads(path.with_suffix(".json").read_text()) == {"source": "ab" * 32, "layer": 9}
    features = read_features(tmp_path, "train", 2)
    everything = np.concatenate(written)
    assert features.source == SOURCE and features.dim == 3 and features.lengths.tolist() == lengths
    assert np.array_equal(features.frames(), everything)
    rows = np.array([0, 5, 11, 12, 18])
    assert np.array_equal(features.frames(rows), everything[rows])
    assert all(map(np.array_equal, features.utterances(), written)) and len(list(features.utterances())) == 5
    assert features.places[3] == f"{tmp_path / 'train_1_2.len'}:2"
    assert isinstance(features.shards[0], np.memmap)


@pytest.mark.parametrize("suffix", [".npy", ".len"])
def test_a_missing_shard_is_named(tmp_path, suffix):
    for shard in range(3):
        write_features(tmp_path, "train", shard, 3, [2], utterances([2]), SOURCE)
    (tmp_path / f"train_1_3{suffix}").unlink()
    message = refused(tmp_path, 3)
    assert (
        "shard 1 of 3 is missing" in message and f"train_1_3{suffix}" in message and "--shard 1 --shards 3" in message
    )


def test_an_interrupted_shard_is_missing_even_where_an_older_one_was(tmp_path):
    write_features(tmp_path, "train", 0, 1, [4], utterances([4]), SOURCE)

    def stopping():
        yield from utterances([4])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path, "train", 0, 1, [4, 6], stopping(), Source("mfcc", None))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".len", ".npy"]
    assert read_features(tmp_path, "train").source == SOURCE  # the older one, whole


def test_an_utterance_of_another_length_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"\(2, 3\), expected \(3, 3\)"):
        write_features(tmp_path, "train", 0, 1, [4, 3], utterances([4, 2]), SOURCE)
    assert not list(tmp_path.iterdir())


def test_lengths_that_disagree_with_the_array_are_refused(tmp_path):
    path = write_features(tmp_path, "train", 0, 1, [4, 3], utterances([4, 3]), SOURCE)
    path.with_suffix(".len").write_text("4\n4\n")
    assert "8 frames in all, but the .npy beside it holds 7" in refused(tmp_path)
    for text in ("4\n-3\n", "4\n3.0\n", "4\n0\n", "4\n\n3\n"):
        path.with_suffix(".len").write_text(text)
        assert "train_0_1.len:2: " in refused(tmp_path)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.array([[1, None]], dtype=object), "not a whole array"),
        (np.zeros((7, 3)), "float64"),
        (np.zeros(7, np.float32), r"shape (7,)"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, array, problem):
    path = write_features(tmp_path, "train", 0, 1, [7], utterances([7]), SOURCE)
    np.save(path, array, allow_pickle=True)
    assert problem in refused(tmp_path)


def test_half_an_array_is_refused(tmp_path):
    path = write_features(tmp_path, "train", 0, 1, [7], utterances([7]), SOURCE)
    path.write_bytes(path.read_bytes()[:-4])
    assert str(path) in refused(tmp_path)


def test_shards_of_different_models_are_refused(tmp_path):
    write_features(tmp_path, "train", 0, 2, [2], utterances([2]), SOURCE)
    write_features(tmp_path, "train", 1, 2, [2], utterances([2]), Source("ab" * 32, 6))
    assert "train_1_2.npy" in (message := refused(tmp_path, 2)) and "layer 6" in message and "layer 9" in message


@pytest.mark.parametrize("text", ["{", "[]", '{"source": "mfcc"}', '{"source": "mfcc", "layer": "x"}'])
def test_a_damaged_side_file_is_refused(tmp_path, text):
    path = write_features(tmp_path, "train", 0, 1, [2], utterances([2]), SOURCE)
    path.with_suffix(".json").write_text(text)
    assert "train_0_1.json" in refused(tmp_path)


def test_real_features_of_fairseq(fixture_folder, tmp_path):
    """The LibriSpeech utterance that fairseq's own tests use, its HuBERT-base layer 9 and its units."""
    original = tmp_path / "original"
    original.mkdir()
    for suffix in (".npy", ".len"):
        (original / f"sample_0_1{suffix}").symlink_to(fixture_folder / f"sample.base.L9{suffix}")
    features = read_features(original, "sample")
    assert features.source is None and features.lengths.tolist() == [596] == [frame_count(190800)]
    (frames,) = features.utterances()
    assert frames.shape == (596, 768)
    copy = write_features(tmp_path / "copy", "sample", 0, 1, [596], [frames], SOURCE)
    assert copy.with_suffix(".len").read_bytes() == (fixture_folder / "sample.base.L9.len").read_bytes()
    size = 596 * 768 * 4  # the headers differ: fairseq's writer leaves room to append
    assert copy.read_bytes()[-size:] == (fixture_folder / "sample.base.L9.npy").read_bytes()[-size:]
    assert np.array_equal(np.load(copy), np.load(fixture_folder / "sample.base.L9.npy"))


def test_real_units_of_fairseq(fixture_folder, tmp_path):
    real = fixture_folder / "sample.base.L9.km500.km"
    (units,) = read_units(real)
    assert len(units) == 596 and units[:6].tolist() == [17, 17, 17, 17, 296, 296]
    write_units(tmp_path / "copy.km", [units])
    assert (tmp_path / "copy.km").read_bytes() == real.read_bytes()
