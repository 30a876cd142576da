"""Measured speeds and sizes that estimates rest on, with the machine that each was measured on."""

import csv
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Rate:
    """seconds of one GPU, or of all cores of a machine, for `unit`; where: what it was measured on."""

    step: str
    seconds: float
    unit: str
    where: str


def read_rates(kind: str) -> dict[str, Rate]:
    """The measured rates of a kind of machine, gpu or cpu, by step."""
    rows = [row for row in _table("rates.tsv") if row["kind"] in (kind, "any")]
    return {row["step"]: Rate(row["step"], float(row["seconds"]), row["unit"], row["where"]) for row in rows}


def read_memory() -> list[dict[str, str]]:
    """The measured memory of fairseq's dataset: lines of a manifest, MiB of one process."""
    return _table("manifest_memory.tsv")


def _table(name: str) -> list[dict[str, str]]:
    text = files("flea_fairseq.workflow").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader((line for line in text.splitlines() if not line.startswith("#")), delimiter="\t"))
