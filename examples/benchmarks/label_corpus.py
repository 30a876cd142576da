"""From audio to frame labels (.km): `flea cluster` against the three scripts of fairseq's simple_kmeans.

Both sides start new processes, whose start-up counts: `python -m flea_fairseq cluster` on ours, dump_hubert_feature.py,
learn_kmeans.py (its own settings) and dump_km_label.py on the peer's, all on the CPU with torch's default number of
threads. The second comparison leaves the fitting out of both: ours is given the model that the peer fitted in the same
run (`--kmeans`), and its labels are compared with the peer's. The peer's scripts run as they are, except for what
dump_hubert_feature.py finds: .cuda() does nothing; where npy_append_array is not installed (it is no dependency of
ours) a class stands in its place that appends rows to the file and writes the header at the end; and where torchaudio
has no sox_effects any more, which fairseq imports and 16 kHz mono needs nothing of, there is an empty module.
"""

import os
import runpy
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import click
import numpy as np
from harness import EMODB, Row, begin, column, conclude, report_arm, share, take_turns, write_listing
from weights import write_hubert

LAYER, CLUSTERS = 9, 100
TOTAL_BAR, GIVEN_BAR, MEMORY_BAR, BF16_BAR, BF16_EQUAL = 0.65, 0.95, 1.0, 0.55, 0.99
ENCODER_STEP = 10  # the encoder alone is timed on every tenth recording


class NpyAppendArray:
    """What the peer uses of npy_append_array: rows go to the file as they come; it is a whole .npy when closed."""

    def __init__(self, path: str) -> None:
        self.file, self.rows, self.dim = open(path, "wb"), 0, 0

    def append(self, rows: np.ndarray) -> None:
        if not self.rows:
            self.file.write(b" " * 128)
        self.rows, self.dim = self.rows + len(rows), rows.shape[1]
        self.file.write(np.ascontiguousarray(rows).data)

    def __del__(self) -> None:
        self.file.seek(0)
        shape = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({self.rows}, {self.dim}), }}"
        self.file.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + shape.ljust(117).encode() + b"\n")
        self.file.close()


def scripts() -> Path:
    """fairseq's simple_kmeans, without importing fairseq."""
    return Path(find_spec("fairseq").submodule_search_locations[0]) / "examples/hubert/simple_kmeans"


def dump(*arguments: str) -> None:
    """Run the peer's dump_hubert_feature.py in this process, without a GPU."""
    import torch
    import torchaudio
    from fairseq.data.dictionary import Dictionary

    torch.serialization.add_safe_globals([Dictionary])  # or torch would refuse HuBERT's own checkpoint
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self: self
    if find_spec("npy_append_array") is None:
        sys.modules["npy_append_array"] = sys.modules[__name__]
    if find_spec("torchaudio.sox_effects") is None:
        sys.modules["torchaudio.sox_effects"] = torchaudio.sox_effects = ModuleType("torchaudio.sox_effects")
    sys.argv = ["dump_hubert_feature.py", *arguments]
    sys.path.insert(0, str(scripts()))
    runpy.run_path(str(scripts() / "dump_hubert_feature.py"), run_name="__main__")


def timed(*command: object) -> float:
    """Seconds of a process."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return time.perf_counter() - start


def peer(work: Path) -> None:
    features, model = work / "features", work / "peer.km"
    seconds = {
        "dump": timed(__file__, "--dump", work, "ssl", work / "hubert.pt", LAYER, 1, 0, features),
        "learn": timed(scripts() / "learn_kmeans.py", features, "ssl", 1, model, CLUSTERS),
        "label": timed(scripts() / "dump_km_label.py", features, "ssl", model, 1, 0, work / "peer"),
    }
    given = seconds["dump"] + seconds["label"]
    report_arm(seconds=sum(seconds.values()), given=given, **seconds)


def ours(work: Path, name: str, *options: object) -> None:
    where = ("cluster", work / "ssl.tsv", work / name, "--checkpoint", work / "hubert.pt", "--layer", LAYER)
    report_arm(seconds=timed("-m", "flea_fairseq", *where, *options))


def waveforms(work: Path) -> list:
    import torch

    from flea_fairseq.clustering.recordings import read_recordings, waveforms

    return [torch.from_numpy(samples) for samples in waveforms(read_recordings(work / "ssl.tsv")[::ENCODER_STEP])]


def encoder_ours(work: Path) -> None:
    """The encoder as `flea cluster` calls it."""
    from flea_fairseq.clustering.embedding import open_embedding

    audio = [waveform.numpy() for waveform in waveforms(work)]
    encode = open_embedding("cluster", work / "hubert.pt", [LAYER], False).encode
    report_encoder(lambda waveform: encode([waveform]), audio)


def encoder_peer(work: Path) -> None:
    import torch
    from fairseq.checkpoint_utils import load_model_ensemble_and_task
    from fairseq.data.dictionary import Dictionary

    torch.serialization.add_safe_globals([Dictionary])
    [model], _, _ = load_model_ensemble_and_task([str(work / "hubert.pt")])
    model.eval()
    with torch.no_grad():
        report_encoder(lambda waveform: model.extract_features(waveform[None], output_layer=LAYER), waveforms(work))


def report_encoder(encode: object, audio: list) -> None:
    encode(audio[0])
    start = time.perf_counter()
    for waveform in audio:
        encode(waveform)
    report_arm(seconds=time.perf_counter() - start)


ARMS = {
    "ours": lambda work: ours(work, "ours", "--clusters", CLUSTERS),
    "peer": peer,
    "ours_given": lambda work: ours(work, "given", "--kmeans", work / "peer.km"),
    "ours_bf16": lambda work: ours(work, "bf16", "--clusters", CLUSTERS, "--bf16"),
    "ours_given_bf16": lambda work: ours(work, "given_bf16", "--kmeans", work / "peer.km", "--bf16"),
    "encoder_ours": encoder_ours,
    "encoder_peer": encoder_peer,
}


def units(path: Path) -> np.ndarray:
    return np.array(path.read_text(encoding="utf-8").split(), dtype=np.int64)


def equal(work: Path, name: str) -> float:
    """Which share of our labels with the peer's model are the peer's."""
    return float(np.mean(units(work / f"{name}/l{LAYER}/ssl.km") == units(work / "peer/ssl_0_1.km")))


def rows(results: dict[str, list[dict]], work: Path) -> list[Row]:
    fitted, theirs, given = results["ours"], results["peer"], results["ours_given"]
    total, without = column(theirs, "seconds"), column(theirs, "given")
    made = [
        share("audio to .km", "s", column(fitted, "seconds"), total, TOTAL_BAR),
        share("audio to .km, model given", "s", column(given, "seconds"), without, GIVEN_BAR),
        share("peak memory", "MiB", column(fitted, "peak_mib"), column(theirs, "peak_mib"), MEMORY_BAR),
        share(
            "encoder alone", "s", column(results["encoder_ours"], "seconds"), column(results["encoder_peer"], "seconds")
        ),
    ]
    if "ours_bf16" in results:
        same = equal(work, "given_bf16")
        made.append(share("audio to .km, bf16", "s", column(results["ours_bf16"], "seconds"), total, BF16_BAR))
        made.append(Row("equal labels, bf16, model given", "", same, 1.0, same, bar=BF16_EQUAL))
    return made


@click.command(help=__doc__)
@click.option(
    "--work", type=click.Path(path_type=Path), default="work/benchmarks/label_corpus", help="for the model and files"
)
@click.option("--corpus", type=click.Path(path_type=Path), default=EMODB, help="folder of 16 kHz recordings")
@click.option("--utterances", type=int, help="Only the first so many, for a trial.")
@click.option("--runs", default=3)
@click.option("--arm", nargs=2, hidden=True)
@click.option("--dump", "dumped", is_flag=True, hidden=True)
@click.argument("arguments", nargs=-1)
def main(work, corpus, utterances, runs, arm, dumped, arguments) -> None:
    if dumped:
        return dump(*arguments)
    if arm:
        return ARMS[arm[0]](Path(arm[1]))
    work = work.resolve()
    listing = write_listing(corpus, work / "ssl.tsv", utterances)
    seconds = sum(int(line.split("\t")[1]) for line in listing.read_text().splitlines()[1:]) / 16000
    write_hubert(work / "hubert.pt", CLUSTERS)
    begin("label_corpus", audio_seconds=round(seconds, 1), layer=LAYER, clusters=CLUSTERS, seed=1)
    half = "amx_bf16" in Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else False
    chosen = [name for name in ARMS if half or "bf16" not in name]
    results = take_turns(__file__, {name: (name, work) for name in chosen}, runs)
    print(f"labels equal to the peer's with its model: {equal(work, 'given'):.6f}")
    for part in ("dump", "learn", "label"):
        print(f"peer, {part}: {np.median(column(results['peer'], part)):.1f} s")
    if not half:
        print("bf16: not measured: no amx_bf16")
    conclude("label_corpus", rows(results, work))


if __name__ == "__main__":
    main()
