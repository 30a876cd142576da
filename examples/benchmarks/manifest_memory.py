"""How much memory very long manifests take: sharding them, joining their labels, and fairseq's own dataset.

The manifest and its labels are generated (4.5 s an utterance); 10 million lines take 10 GB below --work. Sharding and
joining must stay under 1 GiB, whatever the length; fairseq's dataset keeps every name and the place of every label,
and what it takes is what `flea plan` calls the limit of one process.
"""

import itertools
import time
from pathlib import Path

import click
from harness import LOWER, Row, begin, conclude, report_arm, run_arm

from flea_fairseq.data.audio import frame_count
from flea_fairseq.data.files import replacing, write_checksum
from flea_fairseq.data.manifest import write_dictionary
from flea_fairseq.data.shard import shard, shard_paths

LIMIT, SHARDS = 1024.0, 8  # MiB
SAMPLES = 72_000
UNITS = " ".join(str(unit % 10) for unit in range(frame_count(SAMPLES))) + "\n"


def folder_of(work: Path, lines: int) -> Path:
    return work / f"{lines}_lines"


def prepared(work: Path, lines: int) -> None:
    """Write ssl.tsv, ssl.km and dict.km.txt, unless they are there."""
    folder = folder_of(work, lines)
    if (folder / "ssl.km").is_file():
        return
    with replacing(folder / "ssl.tsv") as temporary, open(temporary, "w") as file:
        file.write("/corpus\n")
        file.writelines(
            f"part{i // 1000:05}/speaker{i % 97:03}/utterance_{i:09}.wav\t{SAMPLES}\n" for i in range(lines)
        )
    write_dictionary(folder / "dict.km.txt", map(str, range(10)))
    with replacing(folder / "ssl.km") as temporary, open(temporary, "w") as file:
        file.writelines(itertools.repeat(UNITS, lines))


def dataset(work: Path, lines: int) -> None:
    """fairseq's HubertDataset, as its own task makes it."""
    from fairseq.data import Dictionary, HubertDataset
    from fairseq.tasks.hubert_pretraining import LabelEncoder

    folder = folder_of(work, lines)
    symbols = Dictionary.load(str(folder / "dict.km.txt"))
    before = _resident()
    start = time.perf_counter()
    made = HubertDataset(
        str(folder / "ssl.tsv"), 16000, [str(folder / "ssl.km")], 50.0, [symbols.pad()], [symbols.eos()],
        [LabelEncoder(symbols)], store_labels=False,
    )  # fmt: skip
    assert len(made) == lines
    report_arm(seconds=time.perf_counter() - start, kept_mib=_resident() - before)


def shards(work: Path, lines: int) -> None:
    start = time.perf_counter()
    shard(folder_of(work, lines) / "ssl.tsv", folder_of(work, lines) / "shards", SHARDS)
    report_arm(seconds=time.perf_counter() - start)


def parts(work: Path, lines: int) -> None:
    """Labels of each shard, as jobs would have written them."""
    for path in shard_paths(folder_of(work, lines) / "ssl.tsv", folder_of(work, lines) / "shards", SHARDS):
        units = folder_of(work, lines) / "parts" / path.stem / "l9" / f"{path.stem}.km"
        with open(path) as file, replacing(units) as temporary, open(temporary, "w") as written:
            written.writelines(itertools.repeat(UNITS, sum(1 for _ in file) - 1))
        write_dictionary(units.with_name("dict.km.txt"), map(str, range(10)))
        write_checksum(units)
    report_arm()


def join(work: Path, lines: int) -> None:
    from flea_fairseq.clustering.merge import merge

    folder = folder_of(work, lines)
    start = time.perf_counter()
    merge([folder / "ssl.tsv"], folder / "parts", folder / "units", SHARDS, ["l9/km"])
    report_arm(seconds=time.perf_counter() - start)


def _resident() -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:")) / 1024


ARMS = {"dataset": dataset, "shards": shards, "parts": parts, "join": join}


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path), default="work/benchmarks/manifest_memory")
@click.option("--lines", type=int, multiple=True, default=(1_000_000, 10_000_000))
@click.option("--arm", nargs=3, hidden=True)
def main(work: Path, lines: tuple[int, ...], arm: tuple | None) -> None:
    if arm:
        return ARMS[arm[0]](Path(arm[1]), int(arm[2]))
    begin("manifest_memory", lines=lines, shards=SHARDS)
    rows = []
    for count in lines:
        prepared(work.resolve(), count)
        for name in ARMS:
            result = run_arm(__file__, name, work.resolve(), count)
            print(f"{count:,} lines, {name}: {result}", flush=True)
            peak, bar = result["peak_mib"], 1.0 if name in ("shards", "join") else None
            if name != "parts":
                rows.append(Row(f"{name}, {count:,} lines", "MiB", peak, LIMIT, peak / LIMIT, LOWER, bar))
    conclude("manifest_memory", rows)


if __name__ == "__main__":
    main()
