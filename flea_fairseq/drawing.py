"""What all figures share: colours that are told apart, and curves of no more points than are seen."""

from collections.abc import Callable, Sequence

import numpy as np

ACCENT = "#3f7fc1"  # legible on white and on black
# Told apart on white and on black, and by those who see few colours.
COLOURS = (ACCENT, "#d5671b", "#1a9e77", "#c85fa0", "#a58a10", "#7d6fd0", "#c2413f", "#7b8794")


def binned(
    values: Sequence[float] | np.ndarray, limit: int, reduce: Callable[[np.ndarray], float] = np.mean
) -> np.ndarray:
    """At most `limit` values, each of a stretch of about the same length."""
    return np.array([reduce(part) for part in np.array_split(values, min(limit, len(values)))])
