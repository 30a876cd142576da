"""One k-means model and the labels that it gives the frames of recordings."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from flea_fairseq.clustering.kmeans import KMeansModel
from flea_fairseq.clustering.recordings import Recording

ROUNDING = 3e-5  # of a frame's length: 28 times what padding changed in HuBERT-base (1.1e-6)


@dataclass
class LabelSet:
    """One k-means model and the units it gave; layer: which of the embedding's sources it reads."""

    name: str
    layer: int
    model: KMeansModel
    units: dict[Recording, np.ndarray] = field(default_factory=dict)

    def label(self, recordings: Sequence[Recording], frames: np.ndarray) -> None:
        """Assign the frames of recordings, one after the other: (T, D) in all."""
        units = self.model.assign(frames).astype(np.min_scalar_type(self.model.clusters))  # 1 or 2 bytes a frame
        ends = np.cumsum([recording.frames for recording in recordings])
        self.units.update(zip(recordings, np.split(units, ends[:-1])))

    def doubtful(self, frames: np.ndarray) -> bool:
        """Whether rounding may turn a label: a frame lies as good as in the middle between its two nearest centroids.

        Moving a frame x by r|x| changes the difference of its squared distances to a and b by 2 r|x||a - b| at most.
        """
        if self.model.clusters == 1:
            return False
        centroids, frames = self.model.centroids.astype(np.float64), frames.astype(np.float64)
        distances = self.model.relative_distances(frames)
        first, second = np.argpartition(distances, 1)[:, :2].T
        rows = np.arange(len(frames))
        gaps = np.abs(distances[rows, first] - distances[rows, second])
        apart = np.linalg.norm(centroids[first] - centroids[second], axis=1)
        return bool((gaps <= 2 * ROUNDING * np.linalg.norm(frames, axis=1) * apart).any())
