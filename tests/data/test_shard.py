"""Shards have as much audio each, and joined they are the manifest."""

from pathlib import Path

import numpy as np
import pytest

from flea_fairseq.data.manifest import Manifest, read_manifest, write_manifest
from flea_fairseq.data.shard import shard, shard_bounds
from flea_fairseq.errors import ExperimentError, FormatError


def listing(folder: Path, samples) -> Path:
    names = tuple(f"speech {i}.wav" for i in range(len(samples)))
    write_manifest(folder / "ssl.tsv", Manifest(folder, names, tuple(int(n) for n in samples)))
    return folder / "ssl.tsv"


@pytest.mark.parametrize("seed", range(5))
def test_the_slowest_of_eight_shards_takes_at_most_a_tenth_more(tmp_path, seed):
    """Durations as in speech corpora (log-normal), sorted: by count the last shard would have far more."""
    rng = np.random.default_rng(seed)
    samples = np.sort(np.exp(rng.normal(np.log(4.5 * 16000), 0.7, 2000)).astype(int))
    manifest = listing(tmp_path, samples)
    parts = [read_manifest(path) for path in shard(manifest, tmp_path / "shards", 8)]
    audio = [sum(part.frames) for part in parts]
    assert max(audio) <= 1.1 * np.mean(audio)
    by_count = [sum(samples[2000 // 8 * i : 2000 // 8 * (i + 1)]) for i in range(8)]
    assert max(by_count) > 1.5 * np.mean(by_count)
    whole = read_manifest(manifest)
    assert sum((part.names for part in parts), ()) == whole.names
    assert sum((part.frames for part in parts), ()) == whole.frames
    assert {part.root for part in parts} == {whole.root}


def test_cuts_worked_by_hand():
    assert shard_bounds([1, 1, 1, 1], 2) == [0, 2, 4]
    assert shard_bounds([3, 1, 1, 1], 2) == [0, 1, 4]
    assert shard_bounds([1, 1, 1, 9], 3) == [0, 2, 3, 4]  # each has one recording at least
    assert shard_bounds([9, 1, 1, 1], 3) == [0, 1, 2, 4]
    assert shard_bounds([5], 1) == [0, 1]


@pytest.mark.parametrize("seed", range(20))
def test_each_cut_is_the_nearest_to_its_share(seed):
    rng = np.random.default_rng(seed)
    samples, shards = rng.integers(1, 20, 40), int(rng.integers(2, 9))
    before = [int(samples[:i].sum()) for i in range(41)]
    bounds = shard_bounds(samples.tolist(), shards)
    for number in range(1, shards):  # no share is so small here that a shard would be empty
        share = before[-1] * number / shards
        assert abs(before[bounds[number]] - share) == min(abs(value - share) for value in before)


@pytest.mark.parametrize("shards", [0, 4])
def test_more_shards_than_recordings_are_refused(tmp_path, shards):
    with pytest.raises(ExperimentError, match=f"{shards} shards of 3 recordings; take 1 to 3"):
        shard(listing(tmp_path, [1, 2, 3]), tmp_path / "shards", shards)
    assert not list(tmp_path.glob("shards/*"))


def test_a_broken_line_leaves_nothing_behind(tmp_path):
    manifest = listing(tmp_path, [100, 200, 300])
    manifest.write_text(manifest.read_text().replace("\t300", "\tmany"))
    with pytest.raises(FormatError, match="ssl.tsv:4: 'many' samples"):
        shard(manifest, tmp_path / "shards", 2)
    assert not list(tmp_path.glob("shards/*"))
