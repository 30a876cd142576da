"""What the benchmarks share: arms in fresh processes that take turns, the environment, and the closing JSON line.

A benchmark is a script with a function for each arm. `python SCRIPT` starts itself again for every run of every arm
(`python SCRIPT --arm NAME ...`), so that each has its own peak memory and none inherits another's caches; the arms take
turns (A B A B ...), so that a machine whose speed drifts is fair to both.
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("fairseq-fixed", "fairseq", "torch", "torchaudio", "transformers", "faiss-cpu", "scikit-learn", "numpy")
EMODB = Path(os.environ.get("EMODB", Path(__file__).resolve().parents[3] / "shared/corpora/emodb"))
HIGHER, LOWER = ">=", "<="


@dataclass(frozen=True)
class Row:
    """One comparison. ours, peer: in `unit`; ratio: compared with `bar` in the `sense`; bar None: only reported."""

    case: str
    unit: str
    ours: float
    peer: float
    ratio: float
    sense: str = HIGHER
    bar: float | None = None

    @property
    def holds(self) -> bool:
        if self.bar is None:
            return True
        return self.ratio >= self.bar if self.sense == HIGHER else self.ratio <= self.bar


def speed_up(case: str, ours: Sequence[float], peer: Sequence[float], bar: float | None = None) -> Row:
    """How many times faster we are: the median of the peer's seconds over ours, run by run."""
    ratio = statistics.median(b / a for a, b in zip(ours, peer, strict=True))
    return Row(case, "s", statistics.median(ours), statistics.median(peer), ratio, HIGHER, bar)


def share(case: str, unit: str, ours: Sequence[float], peer: Sequence[float], bar: float | None = None) -> Row:
    """Which share of the peer's time, memory or error we need: the median of ours over the peer's, run by run."""
    ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
    return Row(case, unit, statistics.median(ours), statistics.median(peer), ratio, LOWER, bar)


def take_turns(script: str, arms: dict[str, Sequence[object]], runs: int) -> dict[str, list[dict]]:
    """Run each arm (its name and arguments) `runs` times in fresh processes, in turns; what each printed last.

    Where an arm fails its message is shown, and the benchmark ends.
    """
    results: dict[str, list[dict]] = {name: [] for name in arms}
    for run in range(1, runs + 1):
        for name, arguments in arms.items():
            results[name].append(run_arm(script, *arguments))
            shown = {key: round(v, 4) for key, v in results[name][-1].items() if isinstance(v, (int, float))}
            print(f"run {run}/{runs}  {name}: {shown}", flush=True)
    return results


def run_arm(script: str, arm: str, *arguments: object) -> dict:
    """Run one arm in a fresh process: the JSON object that it printed as its last line."""
    command = [sys.executable, str(Path(script).resolve()), "--arm", arm, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def report_arm(**values: float) -> None:
    """What an arm says at its end: its own figures and its peak memory (its own, or its largest child's)."""
    print(json.dumps({**values, "peak_mib": max(_own_peak(), _children_peak()) / 1024}))


def _own_peak() -> int:
    """In KiB, since this program started: the kernel's ru_maxrss also counts the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _children_peak() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # what they count of ours is no more than our peak


def write_listing(corpus: Path, path: Path, limit: int | None = None) -> Path:
    """Write the manifest of a folder's 16 kHz recordings (.flac, .wav), of the first `limit` by name."""
    import soundfile

    from flea_fairseq.data.manifest import Manifest, write_manifest

    names = sorted(str(p.relative_to(corpus)) for p in corpus.rglob("*") if p.suffix in (".flac", ".wav"))[:limit]
    if not names:
        sys.exit(f"{corpus}: no recordings; name a folder of 16 kHz .flac or .wav with --corpus")
    samples = [soundfile.info(corpus / name).frames for name in names]
    write_manifest(path, Manifest(corpus.resolve(), tuple(names), tuple(samples)))
    return path


def column(results: list[dict], key: str) -> list[float]:
    return [result[key] for result in results]


def environment() -> dict:
    """Machine and versions, for every report."""
    from flea_fairseq.workflow.run import hardware

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "hardware": hardware(),
        "cores_used": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        **versions,
        "revision": _revision(),
    }


def begin(benchmark: str, **settings: object) -> None:
    """Print what is measured and where."""
    print(f"{benchmark}: {json.dumps({**settings, **environment()})}", flush=True)


def conclude(benchmark: str, rows: Sequence[Row]) -> None:
    """Print the table, then one JSON line with every case; exit status 1 where a bar does not hold."""
    print()
    for row in rows:
        bar = f"{row.sense} {row.bar:g}" if row.bar is not None else "no bar"
        verdict = "" if row.bar is None else "holds" if row.holds else "MISSED"
        print(
            f"{row.case:<44} {row.ours:>10.3f} {row.peer:>10.3f} {row.unit:<4} {row.ratio:>7.3f}x  {bar:<9} {verdict}"
        )
    fields = {name: {row.case: getattr(row, name) for row in rows} for name in ("ours", "peer", "ratio")}
    bars = {row.case: f"{row.sense} {row.bar:g}" for row in rows if row.bar is not None}
    holds = all(row.holds for row in rows)
    print(json.dumps({"benchmark": benchmark, **fields, "bar": bars, "holds": holds}))
    sys.exit(0 if holds else 1)


def _revision() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
