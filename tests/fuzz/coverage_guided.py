"""Coverage-guided fuzzing of every reader in `parsers.py` by atheris: `make fuzz SECONDS=60`.

    python tests/fuzz/coverage_guided.py [--seconds 60] [--output work/fuzz] [NAME ...]

The seconds are divided over the readers, each in a process of its own. A reader that ends in anything but a value or
a FleaError that can be shown, or needs more than 10 seconds or 2 GiB, is named with the file that did it.
"""

import argparse
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "evaluation"), str(HERE.parents[1])]
SLOWEST, MEMORY = 10, 2048  # seconds and MiB of one content
LONGEST = 16384  # bytes of a content


def main() -> int:
    given = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    given.add_argument("names", nargs="*", help="readers; all without any")
    given.add_argument("--seconds", type=int, default=60, help="for all readers together")
    given.add_argument("--output", type=Path, default=Path("work/fuzz"), help="corpora, logs and files that fail")
    options = given.parse_args()
    try:
        import atheris
    except ImportError:
        print("fuzz: atheris is not installed (wheels: Linux x86-64, Python 3.11 and 3.12); nothing was run")
        return 0
    with atheris.instrument_imports(include=["flea_fairseq"]):
        from parsers import parsers

        table = parsers()
    names = options.names or list(table)
    if unknown := [name for name in names if name not in table]:
        print(f"fuzz: {', '.join(unknown)} unknown; there are {', '.join(table)}")
        return 2
    seconds = max(1, options.seconds // len(names))
    failed = [name for name in names if not run(table[name], seconds, options.output / name)]
    if failed:
        print(f"fuzz: failed: {', '.join(failed)}; the files are named above")
    return 1 if failed else 0


def run(parser, seconds: int, folder: Path) -> bool:
    """Fuzz one reader in a child process: libFuzzer never returns."""
    corpus, log = folder / "corpus", folder / "log"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(parser.seeds()):
        (corpus / f"seed{number}").write_bytes(content)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        fuzz(parser, seconds, folder, log)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = log.read_text(encoding="utf-8", errors="replace")
    done = re.findall(r"number_of_executed_units: (\d+)", said) or re.findall(r"^#(\d+)", said, re.M) or ["no"]
    covered = re.findall(r" cov: (\d+)", said) or ["0"]
    print(f"{parser.name:14} {done[-1]:>8} contents, {covered[-1]:>5} edges" + ("" if status == 0 else "  FAILED"))
    if status:
        report(parser, said, folder, log)
    return status == 0


def fuzz(parser, seconds: int, folder: Path, log: Path) -> None:
    """Read what libFuzzer makes, until the time is over; the process ends here."""
    import atheris
    from parsers import judge, placed

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(output, 1), os.dup2(output, 2)
    with placed(parser) as path:
        limits = (f"-max_total_time={seconds}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}", f"-max_len={LONGEST}")
        atheris.Setup(
            [parser.name, *limits, f"-artifact_prefix={folder}/", "-print_final_stats=1", str(folder / "corpus")],
            lambda content: judge(parser, path, content) and None,
        )
        atheris.Fuzz()
    os._exit(0)


def report(parser, said: str, folder: Path, log: Path) -> None:
    """Where the content that failed lies, and what to do with it."""
    files = re.findall(r"Test unit written to (\S+)", said)
    why = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*|^ *=* ?Uncaught.*|^==\d+== ERROR.*", said, re.M)
    print(f"    {' '.join(why[-1].split())[:300] if why else 'see the log'}")
    print(f"    content: {files[-1] if files else folder}, log: {log}")
    print(f"    mend the reader, and add the content, as short as it fails, to REGRESSIONS[{parser.name!r}] in")
    print("    tests/fuzz/regressions.py; tests/fuzz/test_properties.py reads it ever after")


if __name__ == "__main__":
    sys.exit(main())
