"""`flea run --dry-run` of the whole of Table 1 on a tree with the release's 5531 utterances."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import write_full_iemocap

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the graph needs Python 3.11"),
]

EXPERIMENT = Path(__file__).resolve().parents[2] / "examples/iemocap/table1.yaml"
A_FOLD = {  # worked by hand
    "cluster_first": 1,  # the layer of HuBERT-base whose units phase 1a predicts
    "cluster_tapt": 1,  # three layers of 1b and three K in one pass
    "cluster_p_tapt": 1,  # four K of one layer
    "train": 2 + 3 * 3 + 3 * 3 * 2 + 2 + 3 + 3,  # 1a 1b, 2, 3, wav2vec 2.0 twice, its classifiers, Table 2's heads
    "evaluate": 1 + 3 * 3 * 2 + 3 + 3,
    "baseline": 1,
    "score_units": 3 * 3,
    "explain": 1,
}
ONCE = {"project": 1, "report": 1}


def test_every_step_of_five_folds_is_counted_and_nothing_is_downloaded(tmp_path):
    corpus = write_full_iemocap(tmp_path / "IEMOCAP_full_release")
    command = [sys.executable, "-m", "flea_fairseq", "run", str(EXPERIMENT), "--corpus", str(corpus)]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "run"), "--dry-run"],
        capture_output=True, text=True, env={**os.environ, "FLEA_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M)}
    expected = {**{name: 5 * count for name, count in A_FOLD.items()}, **ONCE}
    assert counts == {**expected, "steps": sum(expected.values())}
    assert sum(expected.values()) == 382
    # Ten pretrainings a fold of 20,000 x 350 s and P-TAPT's 20,000 x 250 s at 9.5 h for 100,000 x 87.5 s: 407 hours;
    # all others are on clips of 45 ms here, and add one.
    hours = int(re.search(r"about (\d+) GPU-hours for 185 trainings", done.stdout)[1])
    assert hours == pytest.approx(5 * (10 * 20000 * 350 + 20000 * 250) * 9.5 / 100_000 / 87.5, abs=2)
    assert not list((tmp_path / "cache").glob("*")) and not (tmp_path / "run/models").exists()
