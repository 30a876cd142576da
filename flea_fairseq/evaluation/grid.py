"""The grid of layer, K and pooling among a run's systems, as the paper's Table 1 shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

AXES = ("layer", "clusters", "pooling")
ABOVE = ("tapt", "wav2vec")  # groups that Table 1 shows above the grid; all of them pool by the mean


@dataclass(frozen=True)
class Grid:
    """layers, clusters, poolings: the values of each axis; cells: (layer, K, pooling) -> the system's mean row."""

    layers: list[int]
    clusters: list[int]
    poolings: list[str]
    cells: dict[tuple[int, int, str], dict[str, Any]]

    def ua(self, pooling: str) -> np.ndarray:
        """UA of a pooling: (layers, K), nan where nothing was run."""
        rows = [[self.cells.get((layer, k, pooling)) for k in self.clusters] for layer in self.layers]
        return np.array([[row["ua"] if row else np.nan for row in line] for line in rows])

    def span(self) -> tuple[float, float]:
        """The lowest and the highest UA of all cells."""
        values = [row["ua"] for row in self.cells.values()]
        return min(values), max(values)

    def table(self, means: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Table 1: {"title", "cells": a mean row or None for each pooling}, from the top."""
        above = [row for row in means if row.get("group") in ABOVE and "mean" in self.poolings]
        lines: list[tuple[str, dict[str, Any]]] = [(row["title"], {"mean": row}) for row in above]
        for layer in self.layers:
            for k in self.clusters:
                cells = {pooling: self.cells.get((layer, k, pooling)) for pooling in self.poolings}
                lines.append((f"layer {layer}, K {k}", cells))
        return [
            {"title": title, "cells": [of.get(name) for name in self.poolings]}
            for title, of in lines
            if any(of.values())
        ]


def read_grid(means: Sequence[dict[str, Any]]) -> Grid | None:
    """The grid of the systems that have a layer, a K and a pooling; None if it is one cell or none."""
    cells = {tuple(row[axis] for axis in AXES): row for row in means if all(axis in row for axis in AXES)}
    if len(cells) < 2:
        return None
    layers, clusters = (sorted({cell[axis] for cell in cells}) for axis in (0, 1))
    return Grid(layers, clusters, list(dict.fromkeys(pooling for *_, pooling in cells)), cells)


def pooling_title(pooling: str) -> str:
    """The paper's word for a pooling."""
    return f"{ {'mean': 'average'}.get(pooling, pooling) } pooling"
