"""Fitted once, labelled in shards and joined, labels are those of one pass; a damaged shard is found."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from flea_fairseq.clustering.cluster import cluster
from flea_fairseq.clustering.fit import fit
from flea_fairseq.clustering.merge import merge
from flea_fairseq.data.files import check_whole
from flea_fairseq.data.manifest import Manifest, write_manifest
from flea_fairseq.data.shard import shard
from flea_fairseq.errors import FormatError

SHARDS, SETS = 3, ["mfcc/km4", "mfcc/km7"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for split, count in (("ssl", 11), ("test", 4)):
        lengths = rng.integers(4000, 30000, count)
        names = tuple(f"{split}{i}.flac" for i in range(count))
        for name, length in zip(names, lengths):
            soundfile.write(folder / name, rng.standard_normal(length) * np.linspace(0, 0.2, length), 16000)
        write_manifest(folder / f"{split}.tsv", Manifest(folder, names, tuple(map(int, lengths))))
    return folder


@pytest.fixture
def parts(corpus, tmp_path) -> Path:
    """Both manifests labelled in shards."""
    fit(corpus / "ssl.tsv", tmp_path / "units", mfcc=True, clusters=[4, 7])
    for split in ("ssl", "test"):
        for path in shard(corpus / f"{split}.tsv", tmp_path / "shards", SHARDS):
            cluster([path], tmp_path / "parts" / path.stem, mfcc=True, clusters=[4, 7], fitted=tmp_path / "units")
    return tmp_path / "parts"


def join(corpus: Path, parts: Path) -> list[Path]:
    return merge([corpus / "ssl.tsv", corpus / "test.tsv"], parts, parts.parent / "units", SHARDS, SETS)


def test_joined_labels_are_those_of_one_pass(corpus, parts, tmp_path):
    written = join(corpus, parts)
    assert len(written) == 4
    cluster([corpus / "ssl.tsv", corpus / "test.tsv"], tmp_path / "once", mfcc=True, clusters=[4, 7])
    for path in (tmp_path / "once").rglob("*"):
        if path.is_file() and path.suffix != ".npz":
            assert (tmp_path / "units" / path.relative_to(tmp_path / "once")).read_bytes() == path.read_bytes(), path
    one, other = (np.load(tmp_path / where / "mfcc/km7.npz")["centroids"] for where in ("once", "units"))
    assert np.array_equal(one, other)


def test_a_missing_shard_is_named_and_nothing_is_written(corpus, parts):
    gone = parts / "ssl_1_3/mfcc/ssl_1_3.km4"
    gone.unlink()
    with pytest.raises(FormatError, match="ssl_1_3.km4: this shard is missing"):
        join(corpus, parts)
    assert not list((parts.parent / "units/mfcc").glob("ssl.*"))


def test_a_shard_that_was_cut_short_is_set_aside(corpus, parts):
    """By a few characters: the last unit 13 would then read 1, and every count would be right."""
    path = parts / "ssl_2_3/mfcc/ssl_2_3.km7"
    content = path.read_bytes()
    path.write_bytes(content[:-1] if content[-2:-1].isdigit() else content[:-2])
    with pytest.raises(FormatError, match=r"damaged or cut short; it is ssl_2_3.km7.damaged now"):
        join(corpus, parts)
    assert not path.exists() and not (parts.parent / "units/mfcc/ssl.km7").exists()
    cluster(
        [parts.parent / "shards/ssl_2_3.tsv"],
        parts / "ssl_2_3",
        mfcc=True,
        clusters=[4, 7],
        fitted=parts.parent / "units",
    )
    join(corpus, parts)
    check_whole(parts.parent / "units/mfcc/ssl.km7")


def test_shards_of_another_manifest_are_refused(corpus, parts, tmp_path):
    lines = (corpus / "ssl.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "shorter").mkdir()
    for text, problem in (
        ("".join([*lines[:4], "ssl3.flac\t400\n", *lines[5:]]), r"frames for 'ssl3.flac', but its 400 .*ssl.tsv:5\)"),
        ("".join(lines[:-1]), "frames for ''"),
        ("".join([*lines, "a.wav\t8000\n"]), "end 1 recordings before"),
    ):
        (tmp_path / "shorter/ssl.tsv").write_text(text)
        with pytest.raises(FormatError, match=problem):
            merge([tmp_path / "shorter/ssl.tsv"], parts, tmp_path / "units", SHARDS, SETS)


def test_an_earlier_label_file_with_another_checksum_is_found(corpus, parts):
    path = join(corpus, parts)[0]
    path.write_text(path.read_text()[:-3])
    with pytest.raises(FormatError, match="ssl.km4: damaged or cut short: not the file that ssl.km4.sha256 is of"):
        check_whole(path)
