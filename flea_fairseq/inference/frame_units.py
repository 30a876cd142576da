"""The cluster of each frame, by a k-means model and the layer of the model that it was fitted on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flea_fairseq.clustering.embedding import Embedding, open_embedding
from flea_fairseq.clustering.kmeans import KMeansModel, read_kmeans
from flea_fairseq.errors import CheckpointError


@dataclass(frozen=True)
class FrameUnits:
    """A k-means model and the embedding that it labels."""

    model: KMeansModel
    embedding: Embedding

    def label(self, waveform: np.ndarray) -> np.ndarray:
        """(samples,) float32 at 16 kHz -> the cluster of each frame, (T,)."""
        return self.model.assign(self.embedding.encode([waveform])[0][0])


def load_units(kmeans: Path, checkpoint: Path, layer: int | None = None) -> FrameUnits:
    """Open a k-means model for the frames that it was fitted on; layer: for one that does not say it (joblib).

    Raises CheckpointError where it was fitted on another model than `checkpoint`, or on frames of other size.
    """
    model = read_kmeans(kmeans)
    source = model.source
    if source is not None and source.layer is None:
        embedding = open_embedding("predict", None, [], mfcc=True)
    else:
        layer = layer if source is None else source.layer
        if layer is None:
            raise CheckpointError(f"{kmeans}: does not say which layer it was fitted on; name it with --layer")
        embedding = open_embedding("predict", checkpoint, [layer], mfcc=False)
    fitted_on = embedding.sources[0]
    if source is not None and source != fitted_on:
        raise CheckpointError(
            f"{kmeans}: fitted on frames of model {source}, but {checkpoint} is {fitted_on}; name that model's file "
            "with --kmeans-checkpoint (clusters of TAPT belong to tapt/model.pt)"
        )
    if model.dim != embedding.dim:
        raise CheckpointError(
            f"{kmeans}: centroids of {model.dim} dimensions, frames of {checkpoint} have {embedding.dim}"
        )
    return FrameUnits(model, embedding)
