"""A whole experiment whose every name is hostile: nothing of them runs, leaves the output folder, or breaks a table."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import micro
import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner
from names import HOSTILE, IMAGE, TOUCH, WORDS, canaries, listing

from flea_fairseq.cli import flea

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the graph needs Python 3.11"),
]

SESSIONS = ("../../up", f"a b; {TOUCH} {IMAGE}", "-c")
FOLD = "------up"
CONFIG = f"config {HOSTILE}".replace("{y}", "")  # inputs of the graph are patterns
MANIFEST = """
import csv
from pathlib import Path

import click
from flea_fairseq.data.prepare import Entry, prepare, run


@click.command()
@click.argument("root", type=Path)
@click.argument("words", nargs=-1)
@click.option("--output", type=Path)
def main(root, words, output):
    rows = csv.reader(open(root / "labels.csv", encoding="utf-8"))
    prepare(root, [Entry(*row) for row in rows], output)


run(main)
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with everything that a stranger may name: corpus, experiment, configs, manifest script."""
    base = tmp_path_factory.mktemp("base")
    corpus = base / f"-corpus {HOSTILE}"
    corpus.mkdir()
    rows, rng = [], np.random.default_rng(1)
    for number in range(48):
        session, speaker = number % 3, number % 6
        emotion = WORDS[number // 6 % 4]
        name = f"-{number} {HOSTILE}"
        rate = 8000 if number == 0 else 16000  # one, so that all are converted, and named by their ids
        soundfile.write(corpus / f"{name}.wav", rng.standard_normal(int(0.7 * rate)) * 0.05 * (1 + number % 4), rate)
        rows.append([name, f"{name}.wav", f"-{speaker} {HOSTILE}", SESSIONS[session], emotion])
    with open(corpus / "labels.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    shutil.copytree(micro.ROOT / "examples/config", base / CONFIG)
    (base / f"manifest {HOSTILE}.py").write_text(MANIFEST)
    experiment = {
        "base": str(micro.ROOT / "examples/demo/experiment.yaml"), "name": HOSTILE, "spans": "",
        "manifest": f"manifest {HOSTILE}.py", "manifest_options": [HOSTILE, "--output", "../elsewhere.tsv", TOUCH],
        "config_dir": CONFIG,
    }  # fmt: skip
    (base / f"-experiment {HOSTILE}.yaml").write_text(yaml.safe_dump(experiment))
    return base


def words(*changes: str) -> list[str]:
    """`flea run` beside the stranger's files, by names that begin with a dash where the command line takes them."""
    settings = [word for change in (*micro.MICRO, f"folds=[{FOLD}]", *changes) for word in ("--set", change)]
    where = ["--corpus", f"-corpus {HOSTILE}", "--output", f"-output {HOSTILE}", "--cores", "2"]
    return ["run", *where, *settings, "--", f"-experiment {HOSTILE}.yaml"]


def refused(*words: str) -> str:
    """What a command says in its one line; nothing was run."""
    done = CliRunner().invoke(flea, words)
    assert done.exit_code == 1 and done.stderr.startswith("error: ") and done.stderr[:-1].isprintable()
    return done.stderr


def test_a_program_that_an_experiment_file_names_is_not_run_unasked(base, monkeypatch):
    monkeypatch.chdir(base)
    said = refused(*words())
    assert "names a program to run that is none of" in said and "--set 'manifest=" in said
    assert not (base / f"-output {HOSTILE}").exists()


def test_a_config_folder_that_the_graph_cannot_name_is_refused_before_anything_runs(base, tmp_path, monkeypatch):
    monkeypatch.chdir(base)
    shutil.copytree(micro.ROOT / "examples/config", tmp_path / "a {b}")
    said = refused(*words(f"manifest=manifest {HOSTILE}.py", f"config_dir={tmp_path / 'a {b}'}"))
    assert "which Snakemake reads as a pattern" in said and not (base / f"-output {HOSTILE}").exists()


def test_a_whole_experiment_with_hostile_names(base):
    given = listing(base)
    command = [sys.executable, "-m", "flea_fairseq", *words(f"manifest=manifest {HOSTILE}.py")]
    done = subprocess.run(command, cwd=base, capture_output=True, text=True)
    output = base / f"-output {HOSTILE}"
    log = output / "logs/snakemake_all.log"
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{log.read_text()[-3000:] if log.exists() else ''}"
    assert canaries(base) == []
    assert {entry for entry in listing(base) if not entry[0].startswith(f"{output}/")} == given
    assert {path.name for path in base.iterdir()} == {Path(name).relative_to(base).parts[0] for name, _, _ in given} | {
        output.name
    }

    lines = (output / "corpus.tsv").read_text().splitlines()
    rows = [dict(zip(lines[1].split("\t"), line.split("\t"), strict=True)) for line in lines[2:]]
    with open(base / f"-corpus {HOSTILE}/labels.csv", encoding="utf-8", newline="") as file:
        expected = {row[0]: row for row in csv.reader(file)}
    assert len(rows) == 48
    for row in rows:
        assert [row["speaker"], row["session"], row["emotion"]] == expected[row["id"]][2:]
        assert row["path"] == f"{row['id']}.flac" and (output / "audio" / row["path"]).is_file()
    tested = {row["id"]: row["emotion"] for row in rows if row["session"] == SESSIONS[0]}
    found = sorted(output.glob("results/*/*/*/predictions.tsv"))
    assert len(found) == 4  # baseline, TAPT, two of FLEA
    for path in found:
        header, *table = (line.split("\t") for line in path.read_text().splitlines())
        assert header[3:] == sorted(WORDS) and {row[0]: row[1] for row in table} == tested
    assert {row["fold"] for row in json.loads((output / "results.json").read_text())} == {FOLD, "mean"}
    page = (output / "report.html").read_text()
    assert "<img" not in page and "<script" not in page and "&lt;img src=x" in page and "&lt;img/src=x" in page


@pytest.mark.parametrize(
    ("name", "reason"),
    [("new\nline", "line break"), ("tab\tstop", "tab"), ("esc\x1b[2J", "control"), ("${oc.env:HOME}", "reference")],
)
def test_folders_that_cannot_be_written_down_are_refused_before_anything_runs(tmp_path, name, reason):
    experiment = str(micro.ROOT / "examples/demo/experiment.yaml")
    (tmp_path / name).mkdir()
    for corpus, output in ((tmp_path / name, tmp_path / "out"), (tmp_path, tmp_path / name / "out")):
        said = refused("run", experiment, "--corpus", str(corpus), "--output", str(output))
        assert reason in said and "rename the folder" in said and not output.exists()
