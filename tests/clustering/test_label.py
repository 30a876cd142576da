import re

import numpy as np
import pytest
from fairseq.data import Dictionary
from support import write_features

from flea_fairseq.clustering.features import Source
from flea_fairseq.clustering.kmeans import KMeansModel, write_kmeans
from flea_fairseq.clustering.label import check_units, label
from flea_fairseq.data.audio import frame_count
from flea_fairseq.data.manifest import Manifest, read_units, write_manifest, write_units
from flea_fairseq.errors import FormatError

SAMPLES = (1000, 400, 2000, 719)  # 2, 1, 6 and 1 frames
SOURCE = Source("ab" * 32, 9)
CENTROIDS = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
UNITS = [[0, 1], [2], [1, 1, 1, 0, 2, 2], [0]]


@pytest.fixture
def folder(tmp_path):
    """A manifest of four utterances, their features near the centroids of UNITS, in two shards, and the model."""
    assert [frame_count(n) for n in SAMPLES] == [len(row) for row in UNITS]
    write_manifest(tmp_path / "ssl.tsv", Manifest(tmp_path, tuple(f"{i}.wav" for i in range(4)), SAMPLES))
    frames = [CENTROIDS[row] + np.float32(0.25) for row in UNITS]
    for shard in range(2):
        part = frames[2 * shard : 2 * shard + 2]
        write_features(tmp_path, "ssl", shard, 2, [len(f) for f in part], part, SOURCE)
    write_model(tmp_path, CENTROIDS, SOURCE)
    return tmp_path


def write_model(folder, centroids, source):
    metadata = {"source": source.name, "layer": source.layer, "clusters": len(centroids), "dim": centroids.shape[1]}
    write_kmeans(folder / "kmeans.npz", KMeansModel(centroids.astype(np.float32), metadata))


def run(folder, shards=2, **settings):
    return label(folder, "ssl", folder / "ssl.tsv", folder / "kmeans.npz", folder / "units", shards, **settings)


def refused(folder, shards=2):
    with pytest.raises(FormatError) as caught:
        run(folder, shards)
    assert not (folder / "units/ssl.km").exists() and "\n" not in str(caught.value)
    return str(caught.value)


def test_labels_and_dictionary(folder):
    path = run(folder)
    assert path == folder / "units/ssl.km"
    assert path.read_text() == "0 1\n2\n1 1 1 0 2 2\n0\n"
    assert (folder / "units/dict.km.txt").read_text() == "0 1\n1 1\n2 1\n"
    assert [row.tolist() for row in check_units(path, folder / "ssl.tsv", 3)] == UNITS


def test_several_label_sets_stand_beside_each_other(folder):
    run(folder)
    write_model(folder, CENTROIDS[:2], SOURCE)
    assert run(folder, extension="km2").name == "ssl.km2"
    assert sorted(path.name for path in (folder / "units").iterdir()) == [
        "dict.km.txt",
        "dict.km2.txt",
        "ssl.km",
        "ssl.km.sha256",
        "ssl.km2",
        "ssl.km2.sha256",
    ]
    assert len((folder / "units/dict.km2.txt").read_text().splitlines()) == 2


def test_fairseq_reads_the_dictionary(folder):
    run(folder)
    dictionary = Dictionary.load(str(folder / "units/dict.km.txt"))
    assert len(dictionary) == 4 + 3 and dictionary.indices["0"] == 4 and dictionary.indices["2"] == 6


def test_units_of_the_reference_utterance_are_nearest_to_their_own_means(fixture_folder, tmp_path):
    """Real frames and real units: the mean of each unit's frames labels most frames as the official model did."""
    frames = np.load(fixture_folder / "sample.base.L9.npy")
    (units,) = read_units(fixture_folder / "sample.base.L9.km500.km")
    names, inverse = np.unique(units, return_inverse=True)
    centroids = np.stack([frames[inverse == i].mean(0) for i in range(len(names))])
    write_features(tmp_path, "ssl", 0, 1, [596], [frames], SOURCE)
    write_manifest(tmp_path / "ssl.tsv", Manifest(tmp_path, ("6313-76958-0021.flac",), (190800,)))
    write_model(tmp_path, centroids, SOURCE)
    (ours,) = read_units(label(tmp_path, "ssl", tmp_path / "ssl.tsv", tmp_path / "kmeans.npz", tmp_path / "units"))
    assert np.mean(ours == inverse) > 0.9


@pytest.mark.parametrize(
    ("utterance", "samples", "message"),
    [
        (
            2,
            2320,
            r"ssl_1_2\.len:1: 6 frames for '2\.wav', but its 2320 samples \(.*ssl\.tsv:4\) make 7 at 50 a second",
        ),
        (3, 720, r"ssl_1_2\.len:2: 1 frames for '3\.wav', but its 720 samples \(.*ssl\.tsv:5\) make 2 at 50 a second"),
        (0, 719, r"ssl_0_2\.len:1: 2 frames for '0\.wav', but its 719 samples \(.*ssl\.tsv:2\) make 1 at 50 a second"),
    ],
)
def test_audio_of_another_length_is_refused(folder, utterance, samples, message):
    lengths = [samples if i == utterance else length for i, length in enumerate(SAMPLES)]
    write_manifest(folder / "ssl.tsv", Manifest(folder, tuple(f"{i}.wav" for i in range(4)), tuple(lengths)))
    assert re.search(message, refused(folder))


def test_another_number_of_utterances_is_refused(folder):
    write_manifest(folder / "ssl.tsv", Manifest(folder, ("0.wav", "1.wav", "2.wav"), SAMPLES[:3]))
    assert refused(folder) == (
        f"{folder}: 4 utterances, but {folder}/ssl.tsv lists 3; extract and label the same manifest"
    )


def test_a_model_of_another_dimension_layer_or_checkpoint_is_refused(folder):
    write_model(folder, np.eye(3), SOURCE)
    assert refused(folder) == (
        f"{folder}: 2-dimensional frames, but {folder}/kmeans.npz was fitted on 3 dimensions; "
        "fit a model on these features with flea kmeans"
    )
    write_model(folder, CENTROIDS, Source("ab" * 32, 6))
    assert "layer 9" in (message := refused(folder)) and "layer 6; fit a model" in message
    write_model(folder, CENTROIDS, Source("cd" * 32, 9))
    assert "cdcd" in refused(folder)
    write_model(folder, CENTROIDS, Source("mfcc", None))
    assert "mfcc" in refused(folder)


def test_a_model_or_features_without_a_known_source_are_taken(folder):
    write_kmeans(folder / "kmeans.npz", KMeansModel(CENTROIDS, {"source": "scikit-learn", "clusters": 3, "dim": 2}))
    assert run(folder).exists()
    write_model(folder, CENTROIDS, SOURCE)
    for path in folder.glob("ssl_*.json"):
        path.unlink()  # as fairseq's own tools leave them
    assert [row.tolist() for row in read_units(run(folder))] == UNITS


def test_a_missing_shard_stops_the_labels(folder):
    (folder / "ssl_1_2.npy").unlink()
    assert "shard 1 of 2 is missing" in refused(folder)
    with pytest.raises(FormatError, match="shard 0 of 1 is missing"):  # one shard, unless said
        label(folder, "ssl", folder / "ssl.tsv", folder / "kmeans.npz", folder / "units")


@pytest.mark.parametrize(
    ("units", "problem"),
    [
        ([[0, 1], [2], [1] * 6, [3]], r"ssl\.km:4: unit 3, expected 0 to 2"),
        ([[0, 1], [2], [1] * 5, [0]], r"ssl\.km:3: 5 frames for '2\.wav'.*make 6"),
        ([[0, 1], [2], [1] * 6], r"ssl\.km: 3 utterances"),
    ],
)
def test_labels_of_somebody_else_are_checked(folder, units, problem):
    write_units(folder / "ssl.km", [np.array(row) for row in units])
    with pytest.raises(FormatError, match=problem):
        check_units(folder / "ssl.km", folder / "ssl.tsv", 3)


def test_negative_units_are_refused(folder):
    (folder / "ssl.km").write_text("0 1\n2\n1 1 1 0 2 2\n-1\n")
    with pytest.raises(FormatError, match=r"ssl\.km:4"):
        check_units(folder / "ssl.km", folder / "ssl.tsv", 3)
