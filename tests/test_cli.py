"""The command line: every verb explains itself with an example, errors are one line, and help is light."""

import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from flea_fairseq.cli import flea


@pytest.mark.parametrize("verb", sorted(flea.commands))
def test_every_verb_has_help_with_an_example(verb):
    result = CliRunner().invoke(flea, [verb, "--help"])
    assert result.exit_code == 0 and f"Example: flea {verb}" in result.output.replace("\n  ", " ")


def test_help_imports_neither_torch_nor_fairseq():
    code = (
        "import sys, flea_fairseq.cli; print([m for m in ('torch', 'fairseq', 'numpy', 'sklearn') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_user_dir_is_what_fairseq_imports():
    printed = CliRunner().invoke(flea, ["user-dir"]).output.strip()
    assert (Path(printed) / "tasks/speech_emotion.py").is_file()


@pytest.mark.parametrize(
    "arguments",
    [["folds", "absent.tsv", "folds"], ["evaluate", "absent.pt", "absent.tsv", "out.tsv"], ["fetch", "nothing"],
     ["extract", "absent.tsv", "features", "--mfcc"], ["kmeans", "absent", "ssl", "k.npz", "--clusters", "2"],
     ["label", "absent", "ssl", "absent.tsv", "k.npz", "units"], ["report", "absent"],
     ["baseline", "absent.tsv", "absent.tsv", "out.tsv"],
     ["train", "absent", "finetune", ".", "m.pt", "--run-dir", "r"],
     ["run", "absent.yaml", "--corpus", ".", "--output", "out"]],
)  # fmt: skip
def test_an_error_is_one_line_and_leaves_nothing(arguments, tmp_path):
    command = [sys.executable, "-m", "flea_fairseq", *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.returncode == 1 and lines[-1].startswith("error: ") and "Traceback" not in result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_that_cannot_be_written_is_named_in_one_line(tmp_path):
    """As on a full disk; here no file may be longer than 16 bytes."""
    (tmp_path / "ssl.tsv").write_text(f"{tmp_path}\n" + "".join(f"{i}.wav\t16000\n" for i in range(9)))
    command = [sys.executable, "-m", "flea_fairseq", "shard", "ssl.tsv", "shards", "--shards", "2"]
    limited = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (16, 16))
    unwatched = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it writes, too
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=limited, env=unwatched)
    told = "error: shards/ssl_0_2.tsv: cannot be written: File too large; let files be larger (ulimit -f)\n"
    assert result.returncode == 1 and result.stderr == told
    assert not list((tmp_path / "shards").iterdir())


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="the graph runs on this Python")
def test_the_graph_says_which_python_it_needs():
    result = CliRunner().invoke(flea, ["run", "experiment.yaml", "--corpus", ".", "--output", "out"])
    assert result.exit_code == 1 and "error: the graph needs Python >= 3.11" in result.output
