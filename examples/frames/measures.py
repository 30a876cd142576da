"""What rows of score.py come to, with intervals: every measure is a ratio of sums over recordings and seeds.

Recordings share utterances, so utterances are drawn again and not recordings: of a draw a recording counts as often as
the first of its utterances was drawn times as often as the second (the pigeonhole bootstrap: Owen, 2007, Annals of
Applied Statistics 1(2), 386-411). Seeds are drawn again as well. All systems have the same draws, so differences are
paired. With two speakers tested, an interval speaks of other utterances of these speakers, not of other speakers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

DRAWS = 2000
Rows = list[dict[str, Any]]
PLACES = (("readings", "width"), ("decodings", "price"))
PARTS = ("auc", "auc_of", "attention", "attention_of", "side", "side_of", "eder", "changes", "found", "decoded")


class Chosen(NamedTuple):
    """How a system is read: the seconds over which frames are averaged, and the price of a change in nats; 0 where it
    has no frames, or no segments."""

    width: float = 0.0
    price: float = 0.0


class Draws:
    """How often each recording and seed counts: in the first draw once, then as they are drawn."""

    def __init__(self, rows: Rows, draws: int = DRAWS) -> None:
        rng = np.random.default_rng(1)
        self.recordings = {key: i for i, key in enumerate(sorted({(row["fold"], row["recording"]) for row in rows}))}
        self.seeds = {key: i for i, key in enumerate(sorted({row["seed"] for row in rows if row["seed"]}))}
        parts = dict(sorted(((row["fold"], row["recording"]), row["parts"]) for row in rows))
        utterances = {name: i for i, name in enumerate(sorted({name for pair in parts.values() for name in pair}))}
        drawn = _drawn(rng, len(utterances), draws)
        first, second = (np.array([utterances[pair[i]] for pair in parts.values()]) for i in (0, 1))
        self.of_recordings = drawn[:, first] * drawn[:, second]  # (1 + DRAWS, R)
        self.of_seeds = _drawn(rng, len(self.seeds), draws)  # (1 + DRAWS, S)

    def sums(self, rows: Rows, chosen: Chosen) -> dict[str, np.ndarray]:
        """Of one system: each part of a measure, (1 + DRAWS,); `confusion` as well, (1 + DRAWS, C, C), where frames
        were named."""
        seeded = bool(rows[0]["seed"])
        shape = len(self.recordings), len(self.seeds) if seeded else 1
        values, confusions = np.zeros((*shape, len(PARTS))), None
        for row in rows:
            place = self.recordings[row["fold"], row["recording"]], self.seeds[row["seed"]] if seeded else 0
            reading = _at(row["readings"], "width", chosen.width)
            values[place] = _parts(row, reading, _at(row["decodings"], "price", chosen.price))
            if "confusion" in reading:
                if confusions is None:
                    confusions = np.zeros((*shape, *np.shape(reading["confusion"])))
                confusions[place] = reading["confusion"]
        of_seeds = self.of_seeds if seeded else np.ones((len(self.of_seeds), 1))
        found = np.einsum("dr,ds,rsp->pd", self.of_recordings, of_seeds, values, optimize=True)
        sums = dict(zip(PARTS, found))
        if confusions is not None:
            sums["confusion"] = np.einsum("dr,ds,rsij->dij", self.of_recordings, of_seeds, confusions, optimize=True)
        return sums


def _drawn(rng: np.random.Generator, number: int, draws: int) -> np.ndarray:
    """How often each of so many is drawn: once, then in draws with replacement."""
    shares = np.full(number, 1 / max(number, 1))
    return np.concatenate([np.ones((1, number)), rng.multinomial(number, shares, draws)])


def _at(several: Rows, key: str, value: float) -> dict[str, Any]:
    """What is known at a width or price."""
    found = next((one for one in several if one[key] == value), {})
    return {name: known for name, known in found.items() if known is not None}


def _parts(row: dict[str, Any], reading: dict[str, Any], decoding: dict[str, Any]) -> list[float]:
    values = reading.get("auc"), reading.get("attention_auc"), row["side"]
    known = [part for value in values for part in _known(value)]
    return [*known, *(decoding.get(name, 0) for name in ("eder", "changes", "found")), bool(decoding)]


def _known(value: float | None) -> tuple[float, float]:
    return (0.0, 0.0) if value is None else (float(value), 1.0)


def measured(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each measure in each draw, (1 + DRAWS,): the first is the estimate, the rest its distribution; those that the
    system does not have are left out.

    auc, attention, side: means; ua: of frames, 0..1; eder: a mean; precision, recall, f1: of changes near the joint.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {name: sums[name] / sums[f"{name}_of"] for name in ("auc", "attention", "side")}
        found["eder"] = sums["eder"] / sums["decoded"]
        found["precision"], found["recall"] = sums["found"] / sums["changes"], sums["found"] / sums["decoded"]
        found["f1"] = 2 * sums["found"] / (sums["changes"] + sums["decoded"])
        if "confusion" in sums:
            recalls = np.diagonal(sums["confusion"], axis1=1, axis2=2) / sums["confusion"].sum(2)
            found["ua"] = np.nansum(recalls, 1) / np.isfinite(recalls).sum(1)  # of the classes that were drawn
    return {name: values for name, values in found.items() if np.isfinite(values[0])}


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """The estimate, and the 95 % percentile interval."""
    low, high = np.nanpercentile(values[1:], (2.5, 97.5))
    return float(values[0]), float(low), float(high)


def choices(rows: Rows) -> dict[str, Chosen]:
    """How each system is read best: at the width of most worth and the price of fewest errors, the larger of equals."""
    draws, found = Draws(rows, draws=0), {}
    for name, own in by_system(rows).items():
        widths, prices = ([one[key] for one in own[0][several]] for several, key in PLACES)
        read = [(_worth(measured(draws.sums(own, Chosen(width)))), width) for width in widths]
        decoded = [(-measured(draws.sums(own, Chosen(price=price)))["eder"][0], price) for price in prices]
        found[name] = Chosen(*(max(pairs)[1] if pairs else 0.0 for pairs in (read, decoded)))
    return found


def _worth(known: dict[str, np.ndarray]) -> float:
    """The mean of frame AUC and frame UA, or that of them which there is; of attention alone its AUC."""
    values = [known[name][0] for name in ("auc", "ua") if name in known] or [known["attention"][0]]
    return float(np.mean(values))


def by_system(rows: Rows) -> dict[str, Rows]:
    """Rows of each system, systems in their order."""
    found: dict[str, Rows] = {}
    for row in rows:
        found.setdefault(row["system"], []).append(row)
    return found


def worth(rows: Rows) -> dict[str, float]:
    """By what variants are chosen on validation speakers: the mean of frame AUC and frame UA."""
    draws, chosen, found = Draws(rows, draws=0), choices(rows), {}
    for name, own in by_system(rows).items():
        known = measured(draws.sums(own, chosen[name]))
        if "auc" in known and "ua" in known:
            found[name] = _worth(known)
    return found


def median_error(rows: Rows, price: float) -> float | None:
    """Milliseconds from the joint to the nearest change, the median where there is one."""
    errors = [one["error"] for row in rows for one in row["decodings"] if one["price"] == price]
    known: Sequence[float] = [error for error in errors if error is not None]
    return float(np.median(known)) if known else None
