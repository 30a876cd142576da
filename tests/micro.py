"""`flea run` of a micro experiment: the demo's graph, every step, on a corpus and models of a few seconds."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
MICRO = (
    "folds=[Ses01]", "clusters=8", "first_units.clusters=8", "projected_frames=200",
    *(f"settings.pretrain.{key}" for key in (
        "model.encoder_embed_dim=32", "model.encoder_ffn_embed_dim=32", "optimization.max_update=8",
        "dataset.max_tokens=100000", "checkpoint.save_interval_updates=2",
        'model.conv_feature_layers="[(8,10,5)] + [(8,3,2)] * 4 + [(8,2,2)] * 2"')),
    "settings.tapt_pretrain.optimization.max_update=8", "settings.finetune.optimization.max_epoch=2",
)  # fmt: skip
LOCAL = ("--cores", "2")
DEGENERATE = {
    "silent": lambda samples: 0 * samples,
    "clipped": lambda samples: np.sign(samples) * 32767,
    "constant": lambda samples: np.full_like(samples, 12000),
    "one frame": lambda samples: samples[8000:8400],
    "0.1 s": lambda samples: samples[8000:9600],
}


def make_corpus(folder: Path, sentences: int = 2) -> Path:
    """The demo's corpus, with fewer sentences."""
    script = str(ROOT / "examples/demo/make_corpus.py")
    subprocess.run([sys.executable, script, str(folder), "--sentences", str(sentences)], check=True)
    return folder


def degenerate_utterances(corpus: Path) -> dict[Path, str]:
    """Five files of each session, of both speakers and all emotions among them, and what kind each is to be."""
    sessions = [sorted(session.glob("sentences/wav/*/*.wav")) for session in sorted(corpus.glob("Session*"))]
    return {
        files[(3 * place + session) % len(files)]: kind
        for session, files in enumerate(sessions, start=1)
        for place, kind in enumerate(DEGENERATE)
    }


def make_degenerate(corpus: Path) -> None:
    """Spoil these utterances; a known span of one becomes all of it."""
    seconds = {}
    for path, kind in degenerate_utterances(corpus).items():
        samples, rate = soundfile.read(path, dtype="int16")
        spoilt = DEGENERATE[kind](samples.astype(np.int32)).astype(np.int16)
        soundfile.write(path, spoilt, rate, subtype="PCM_16")
        seconds[path.stem] = len(spoilt) / rate
    lines = [line.split(" ") for line in (corpus / "spans.rttm").read_text().splitlines()]
    for line in lines:
        if line[1] in seconds:
            line[3:5] = "0.0", str(seconds[line[1]])
    (corpus / "spans.rttm").write_text("".join(" ".join(line) + "\n" for line in lines))


def start(corpus: Path, output: Path, *options: str, changes: tuple[str, ...] = MICRO) -> subprocess.Popen:
    """`flea run` in a process of its own."""
    experiment = str(ROOT / "examples/demo/experiment.yaml")
    where = ["--corpus", str(corpus), "--output", str(output)]
    settings = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "flea_fairseq", "run", experiment, *where, *options, *settings]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def started(*arguments, **options) -> Iterator[subprocess.Popen]:
    """The same, ended with what it started if the test ends before it."""
    process = start(*arguments, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=120)


def run(corpus: Path, output: Path, *options: str, changes: tuple[str, ...] = MICRO) -> tuple[str, str]:
    """The same, to its end, which must be a good one; what it printed and logged."""
    process = start(corpus, output, *options, changes=changes)
    printed, errors = process.communicate(timeout=3600)
    log = output / "logs/snakemake_all.log"
    assert process.returncode == 0, f"{errors}\n{log.read_text()[-5000:] if log.exists() else ''}"
    return printed, errors


def results(output: Path) -> dict[str, object]:
    """Everything that must be alike however a run went: scores, predictions and labels, byte by byte."""
    files = [*output.glob("results/**/*.tsv"), *output.glob("results/**/*.json"), *output.glob("units/**/*.km*")]
    kept = {str(path.relative_to(output)): path.read_bytes() for path in files if "/parts/" not in str(path)}
    return {**kept, "results.json": json.loads((output / "results.json").read_text())}


def assert_same(one: Path, other: Path) -> None:
    first, second = results(one), results(other)
    assert first.keys() == second.keys() and len(first) > 7
    assert [name for name, value in first.items() if value != second[name]] == []
