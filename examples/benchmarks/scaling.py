"""Labelling and training on 1, 2 and 4 times the audio: time must grow no more than linearly, memory not at all.

The corpus is repeated under other names. Labelling: `flea cluster` from audio to .km, with the same number of frames
to fit k-means on; the time is that of the call, after imports. Training: one epoch of masked prediction through
fairseq-hydra-train; the time is fairseq's own "done training in ... seconds", without start-up, and that of the whole
process is given as well. The peer of a row is linear growth from 1x, or the peak memory at 1x.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
from harness import EMODB, Row, begin, column, conclude, report_arm, share, take_turns, write_listing
from weights import write_hubert

from flea_fairseq.data.audio import frame_count
from flea_fairseq.data.manifest import Manifest, read_manifest, write_dictionary, write_manifest, write_units
from flea_fairseq.workflow.settings import override

SIZES = (1, 2, 4)
SHAPE = {
    "conv_feature_layers": "[(128,10,5)] + [(128,3,2)] * 4 + [(128,2,2)] * 2", "encoder_layers": 4,
    "encoder_embed_dim": 256, "encoder_ffn_embed_dim": 1024, "encoder_attention_heads": 4,
}  # fmt: skip
LAYER, CLUSTERS, MAX_FRAMES = 3, 100, 5000
CONFIG = Path(__file__).resolve().parents[1] / "config"
TIME_BAR, MEMORY_BAR = 1.05, 1.1


def prepared(work: Path, corpus: Path, utterances: int) -> float:
    """Write the model and, for each size, a folder with ssl.tsv, ssl.km and its dictionary; seconds at 1x."""
    write_hubert(work / "hubert_small.pt", CLUSTERS, **SHAPE)
    every = read_manifest(write_listing(corpus, work / "all.tsv"))
    step = max(1, len(every.names) // utterances)
    paths, samples = every.paths()[::step][:utterances], every.frames[::step][:utterances]
    rng = np.random.default_rng(1)
    units = [rng.integers(0, CLUSTERS, frame_count(count)) for count in samples]
    for size in SIZES:
        folder = work / f"{size}x"
        names = [f"{copy}_{path.name}" for copy in range(size) for path in paths]
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in zip(names, paths * size):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(path)
        write_manifest(folder / "ssl.tsv", Manifest(folder, tuple(names), samples * size))
        write_units(folder / "ssl.km", units * size)
        write_dictionary(folder / "dict.km.txt", [str(unit) for unit in range(CLUSTERS)])
    return sum(samples) / 16000


def label(work: Path, size: str) -> None:
    from flea_fairseq.clustering.cluster import cluster

    start = time.perf_counter()
    cluster(
        [work / size / "ssl.tsv"],
        work / f"{size}_labels",
        work / "hubert_small.pt",
        [LAYER],
        clusters=[CLUSTERS],
        max_frames=MAX_FRAMES,
    )
    report_arm(seconds=time.perf_counter() - start)


def train(work: Path, size: str) -> None:
    """One epoch in the same batches of at most 30 s; the model is not saved, which costs the same at any size."""
    settings = {
        "common.user_dir": CONFIG.parents[1] / "flea_fairseq", "checkpoint.save_dir": work / "run",
        "++checkpoint.no_save": True, "task.data": work / size, "model.init_checkpoint": work / "hubert_small.pt",
        "dataset.max_tokens": 480000, "dataset.num_workers": 0, "optimization.update_freq": [1],
        "optimization.max_update": 0, "optimization.max_epoch": 1, "lr_scheduler.total_num_update": 1000,
        **{f"model.{key}": value for key, value in SHAPE.items()},
    }  # fmt: skip
    command = [sys.executable, "-m", "fairseq_cli.hydra_train", "--config-dir", CONFIG, "--config-name", "pretrain"]
    command += [override(key, value) for key, value in settings.items()]
    start = time.perf_counter()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    whole = time.perf_counter() - start
    found = re.search(r"done training in ([\d.]+) seconds", done.stdout + done.stderr)
    if done.returncode or not found:
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
    report_arm(seconds=float(found[1]), whole=whole)


ARMS = {"label": label, "train": train}


def growth(step: str, results: dict[str, list[dict]]) -> list[Row]:
    """Time against linear growth from 1x, and peak memory against 1x, run by run."""
    once = results[f"{step} 1x"]
    rows = []
    for size in SIZES[1:]:
        more = results[f"{step} {size}x"]
        for key in ("seconds", "whole"):
            if key in more[0]:
                linear = [size * seconds for seconds in column(once, key)]
                case = f"{step}: {size}x the audio" + (", start-up included" if key == "whole" else "")
                rows.append(share(case, "s", column(more, key), linear, TIME_BAR))
        memory = column(more, "peak_mib"), column(once, "peak_mib")
        rows.append(share(f"{step}: peak memory at {size}x", "MiB", *memory, MEMORY_BAR))
    return rows


@click.command(help=__doc__)
@click.option(
    "--work", type=click.Path(path_type=Path), default="work/benchmarks/scaling", help="for the model and files"
)
@click.option("--corpus", type=click.Path(path_type=Path), default=EMODB, help="folder of 16 kHz recordings")
@click.option("--utterances", default=535, help="at 1x; 535 are all of EmoDB")
@click.option("--runs", default=3)
@click.option("--arm", nargs=3, hidden=True)
def main(work: Path, corpus: Path, utterances: int, runs: int, arm: tuple | None) -> None:
    if arm:
        return ARMS[arm[0]](Path(arm[1]), arm[2])
    work = work.resolve()
    seconds = prepared(work, corpus, utterances)
    begin("scaling", audio_seconds=round(seconds, 1), sizes=SIZES, shape=SHAPE, max_frames=MAX_FRAMES, seed=1)
    arms = {f"{step} {size}x": (step, work, f"{size}x") for step in ARMS for size in SIZES}
    results = take_turns(__file__, arms, runs)
    conclude("scaling", [row for step in ARMS for row in growth(step, results)])


if __name__ == "__main__":
    main()
