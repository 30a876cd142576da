"""The labels of a pass over many recordings, and which of them rounding may turn, by hand."""

from pathlib import Path

import numpy as np
import pytest

from flea_fairseq.clustering.kmeans import KMeansModel
from flea_fairseq.clustering.label_set import ROUNDING, LabelSet
from flea_fairseq.clustering.recordings import Recording

CENTROIDS = np.array([[0, 3], [8, 3], [90, 3], [94, 3]], np.float32)


def label_set(centroids: np.ndarray) -> LabelSet:
    return LabelSet("km", 9, KMeansModel(centroids, {}))


def test_each_recording_gets_the_labels_of_its_own_frames():
    one, two, three = (Recording(Path(name), samples) for name, samples in (("a", 720), ("b", 400), ("c", 1040)))
    labels = label_set(CENTROIDS)
    labels.label([one, two], CENTROIDS[[1, 3, 2]])
    labels.label([three], CENTROIDS[[0, 1, 1]])
    assert {recording: units.tolist() for recording, units in labels.units.items()} == {
        one: [1, 3],
        two: [2],
        three: [0, 1, 1],
    }


@pytest.mark.parametrize(("clusters", "size"), [(255, 1), (256, 2)])
def test_a_label_takes_as_few_bytes_as_the_units_need(clusters, size):
    labels = label_set(np.arange(clusters, dtype=np.float32)[:, None])
    recording = Recording(Path("a"), 400)
    labels.label([recording], np.array([[clusters - 1]], np.float32))
    assert labels.units[recording].dtype.itemsize == size and labels.units[recording].tolist() == [clusters - 1]


def frame(away: float) -> np.ndarray:
    """(4, 3) is in the middle of the first two centroids and of length 5; this is so many times that away from it."""
    return np.array([[4 + 5 * away, 3]])


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("centroids", [CENTROIDS, CENTROIDS[:2]])
def test_a_frame_as_near_the_middle_as_rounding_moves_it_is_doubtful(centroids, side):
    labels = label_set(centroids)
    assert labels.doubtful(frame(0)) and labels.doubtful(frame(0.9 * side * ROUNDING))
    certain = np.repeat(frame(1.1 * side * ROUNDING), 3, axis=0)
    assert not labels.doubtful(certain) and labels.doubtful(np.concatenate([certain, frame(0)]))  # one is enough


def test_the_middle_of_two_other_centroids_is_no_doubt():
    labels = label_set(np.array([[0, 3], [-10, 3], [10, 3]], np.float32))
    assert not labels.doubtful(np.array([[0.0, 3.0]]))  # on the first, between the others


def test_one_cluster_leaves_no_doubt():
    assert not label_set(CENTROIDS[:1]).doubtful(frame(0))


def test_a_frame_of_no_length_in_the_middle_is_doubtful():
    assert label_set(np.array([[-1], [1]], np.float32)).doubtful(np.zeros((1, 1)))
