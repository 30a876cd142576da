"""`flea plan`, worked by hand with the rates of its own table."""

import re
from pathlib import Path

import pytest

from flea_fairseq.errors import ExperimentError
from flea_fairseq.workflow.plan import plan
from flea_fairseq.workflow.rates import read_memory, read_rates

ROOT = Path(__file__).resolve().parents[2]
TABLE1, DEMO = ROOT / "examples/iemocap/table1.yaml", ROOT / "examples/demo/experiment.yaml"


def hours(text: str, step: str) -> tuple[int, float, float]:
    """Runs, hours each, hours."""
    found = re.search(rf"^{step} +(\d+) +(\S+) +(\S+)", text, re.M)
    return int(found[1]), float(found[2]), float(found[3])


def test_updates_are_counted_and_epochs_grow_with_the_audio():
    train = read_rates("gpu")["train"].seconds
    small, large = plan(TABLE1, 7, gpus=8), plan(TABLE1, 700, gpus=8)
    runs, each, total = hours(small, "align_l9_k50")
    assert (
        runs == 5
        and each == pytest.approx(20000 * 350 * train / 3600, rel=0.05)
        and total == pytest.approx(5 * each, rel=0.05)
    )
    assert hours(large, "align_l9_k50") == (runs, each, total)
    assert hours(small, "tapt")[1] == pytest.approx(40 * 7 * 0.8 * train, rel=0.05)
    assert hours(large, "tapt")[1] == pytest.approx(100 * hours(small, "tapt")[1], rel=0.05)


def test_more_gpus_shorten_the_run_down_to_its_longest_chain():
    times = [float(re.search(r"at once (\S+) h", plan(TABLE1, 7, gpus=gpus))[1]) for gpus in (1, 8, 10_000)]
    total = float(re.search(r"^(\S+) GPU-hours", plan(TABLE1, 7), re.M)[1])
    chain = float(re.search(r"wait for each other: (\S+) h", plan(TABLE1, 7))[1])
    assert times[0] == total and times[1] == pytest.approx(total / 8, rel=0.01) and times[2] == chain
    parts = [hours(plan(TABLE1, 7), step)[1] for step in ("tapt_pretrain", "tapt", "cluster tapt", "align_l9_k50")]
    assert chain > sum(parts)


def test_limits_are_said_from_measured_memory():
    said = plan(TABLE1, 10_000)
    assert [int(row["lines"]) for row in read_memory()] == [1_000_000, 10_000_000]
    assert "8,000,000 lines here" in said and "at 1,000,000 h: 800,000,000 lines" in said
    assert all(rate.where in said for rate in read_rates("gpu").values())


def test_another_shape_is_refused():
    with pytest.raises(ExperimentError, match="another shape than HuBERT-base"):
        plan(DEMO, 7)


def test_a_pooling_that_a_run_would_refuse_is_refused(tmp_path):
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(f"base: {TABLE1}\npoolings: [mean, local_sharpest]\n")
    with pytest.raises(ExperimentError, match="'local_sharpest' is unknown, .* local_sharp in .*/pooling"):
        plan(experiment, 7)
    experiment.write_text(f"base: {TABLE1}\npoolings: [mean, local_sharp]\n")
    assert hours(plan(experiment, 7), "flea_l9_k50_local_sharp")[0] == 5
