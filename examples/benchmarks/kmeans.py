"""k-means on HuBERT frames: ours against scikit-learn's MiniBatchKMeans as fairseq's learn_kmeans.py sets it.

Both fit the same frames in memory with the same threads, each fit in a fresh process; the time is the fit alone, and
one function measures the inertia of both. Frames are extracted once into --work.
"""

import json
import statistics
import time
from pathlib import Path

import click
import numpy as np
from harness import EMODB, LOWER, Row, begin, column, conclude, report_arm, run_arm, write_listing
from sklearn.cluster import MiniBatchKMeans
from weights import write_hubert

from flea_fairseq.clustering.extract import extract
from flea_fairseq.clustering.features import read_features
from flea_fairseq.clustering.kmeans import fit_kmeans

LAYER, SHARDS = 9, 4
TIME_BARS = {50: 0.1, 100: 0.08, 500: 0.08}
CHUNK = 8192  # frames whose distances are computed at once


def prepared(work: Path, corpus: Path) -> Path:
    """The folder of the layer's features; what an earlier run extracted there is kept."""
    checkpoint = work / "hubert_base.pt"
    if not checkpoint.is_file():
        write_hubert(checkpoint)
    manifest = write_listing(corpus, work / "all.tsv")
    folder = work / f"l{LAYER}"
    for shard in range(SHARDS):
        if not (folder / f"all_{shard}_{SHARDS}.npy").is_file():
            extract(manifest, work, checkpoint, [LAYER], shard=shard, shards=SHARDS)
    return folder


def load(folder: Path) -> np.ndarray:
    return np.array(read_features(folder, "all", SHARDS).frames())


def inertia(frames: np.ndarray, centroids: np.ndarray) -> float:
    """The mean squared distance to the nearest centroid, over all frames, in double precision."""
    centroids = centroids.astype(np.float64)
    total = 0.0
    for start in range(0, len(frames), CHUNK):
        chunk = frames[start : start + CHUNK].astype(np.float64)
        nearest = (np.square(centroids).sum(1) - 2 * chunk @ centroids.T).argmin(1)
        total += np.square(chunk - centroids[nearest]).sum()
    return total / len(frames)


def ours(frames: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    return fit_kmeans(frames, clusters, None, "benchmark", seed).centroids


def peer(frames: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """The defaults of examples/hubert/simple_kmeans/learn_kmeans.py, which seeds numpy's global generator."""
    np.random.seed(seed)
    model = MiniBatchKMeans(
        clusters,
        init="k-means++",
        max_iter=100,
        batch_size=10000,
        compute_labels=False,
        tol=0.0,
        max_no_improvement=100,
        init_size=None,
        n_init=20,
        reassignment_ratio=0.0,
    )
    return model.fit(frames).cluster_centers_


ARMS = {"ours": ours, "peer": peer}


def run(arm: str, folder: Path, clusters: int, seed: int) -> None:
    frames = load(folder)
    start = time.perf_counter()
    centroids = ARMS[arm](frames, clusters, seed)
    seconds = time.perf_counter() - start
    used = len(np.unique(centroids, axis=0))
    report_arm(seconds=seconds, inertia=inertia(frames, centroids), distinct=used)


def measured(arm: str, folder: Path, clusters: int, seed: int, kept: Path | None) -> dict:
    """One fit in a fresh process, or what an earlier run wrote into `kept`."""
    if kept is not None and kept.is_file():
        return json.loads(kept.read_text())
    result = run_arm(__file__, arm, folder, clusters, seed)
    print(f"K={clusters} seed {seed} {arm}: {json.dumps(result)}", flush=True)
    if kept is not None:
        kept.write_text(json.dumps(result))
    return result


def compare(folder: Path, clusters: int, seeds: int, reuse_peer: bool) -> list[Row]:
    a, b = [], []
    for seed in range(1, seeds + 1):
        a.append(measured("ours", folder, clusters, seed, None))
        b.append(
            measured("peer", folder, clusters, seed, folder / f"peer_{clusters}_{seed}.json" if reuse_peer else None)
        )
    ours, peer = column(a, "inertia"), column(b, "inertia")
    mean = statistics.mean(peer)
    seconds = [statistics.median(column(results, "seconds")) for results in (a, b)]
    peaks = [max(column(results, "peak_mib")) for results in (a, b)]
    rows = [
        Row("mean inertia", "", statistics.mean(ours), mean, statistics.mean(ours) / mean, LOWER, 1.0),
        Row("highest inertia, over the mean", "", max(ours), mean, max(ours) / mean, LOWER, 1.003),
        Row("fit, median time", "s", *seconds, seconds[0] / seconds[1], LOWER, TIME_BARS.get(clusters)),
        Row("peak memory", "MiB", *peaks, peaks[0] / peaks[1], LOWER),
    ]
    return rows


@click.command(help=__doc__)
@click.option(
    "--work", type=click.Path(path_type=Path), default="work/benchmarks/kmeans", help="for weights and frames"
)
@click.option("--corpus", type=click.Path(path_type=Path), default=EMODB, help="folder of 16 kHz recordings")
@click.option("--clusters", type=int, multiple=True, default=(50, 100, 500))
@click.option("--seeds", default=5)
@click.option("--reuse-peer", is_flag=True, help="development only: keep the peer's figures in --work")
@click.option("--arm", nargs=4, hidden=True)
def main(work: Path, corpus: Path, clusters: tuple[int, ...], seeds: int, reuse_peer: bool, arm: tuple | None) -> None:
    if arm:
        return run(arm[0], Path(arm[1]), int(arm[2]), int(arm[3]))
    folder = prepared(work.resolve(), corpus)
    begin("kmeans", frames=len(load(folder)), layer=LAYER, clusters=clusters, seeds=seeds, reuse_peer=reuse_peer)
    conclude("kmeans", [row for k in clusters for row in compare(folder, k, seeds, reuse_peer)])


if __name__ == "__main__":
    main()
