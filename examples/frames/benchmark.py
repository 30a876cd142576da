"""The whole frame benchmark of one corpus: train, join, score validation speakers, and show.

    python examples/frames/benchmark.py examples/frames/emodb.yaml --corpus /data/emodb --output work/frames/emodb

What is there is kept as long as what it was made of is the same. Test speakers are scored only with --test, after the
choice has been made on validation speakers.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from joins import make_joins
from measures import Rows, worth
from score import model_path, read_run, score_run, write_rows
from show import read_rows, tables, utterance_scores

from flea_fairseq.data.files import read_json, sha256, write_text
from flea_fairseq.data.prepare import run

SPLITS = ("train", "valid", "test")
MADE_BY = ("listeners.py", "reading.py", "decoding.py", "recordings.py", "score.py")


def benchmark(
    experiment: Path, corpus: Path, output: Path, cores: int, changes: tuple[str, ...], test: bool, against: str | None
) -> None:
    """Write `output/valid.json` and `.md`, with test those of test. Raises FleaError where a step refuses."""
    words = [word for change in changes for word in ("--set", change)]
    command = ["run", experiment, "--corpus", corpus, "--output", output, "--cores", cores, *words]
    ended = subprocess.run([sys.executable, "-m", "flea_fairseq", *map(str, command)])
    if ended.returncode:
        sys.exit(ended.returncode)  # it has said why
    joins = joined(corpus, output)
    valid = scored(output, joins, "valid")
    against = against or best_window(valid)
    show(output, "valid", tables(valid, valid, against, {}))
    if test:
        results = utterance_scores(output / "results.json")
        show(output, "test", tables(scored(output, joins, "test"), valid, against, results))


def joined(corpus: Path, output: Path) -> Path:
    """The folder of the joins of all splits of a run, which has the name of what they are made of."""
    folds = read_run(output).folds
    files = [output / f"folds/{fold}/{split}.{kind}" for fold in folds for split in SPLITS for kind in ("tsv", "emo")]
    beside = {name: path if (path := corpus / name).exists() else None for name in ("spans.rttm", "voices.tsv")}
    made_of = digest(
        [output / "corpus.tsv", *files, *filter(None, beside.values()), Path(__file__).parent / "joins.py"]
    )
    folder = output / "joins" / made_of[:12]
    for fold in folds:
        for split in SPLITS:
            if not (folder / fold / split).exists():
                (folder / fold).mkdir(parents=True, exist_ok=True)
                manifest = output / f"folds/{fold}/{split}.tsv"
                make_joins(output / "corpus.tsv", manifest, folder / fold / split, *beside.values())
    return folder


def scored(output: Path, joins: Path, split: str) -> Rows:
    """The rows of all systems, scored again if anything they are made of is another."""
    scores = output / f"{split}.json"
    folds, seeds, systems = read_run(output)
    models = [model_path(output, fold, seed, row["key"]) for fold in folds for seed in seeds for row in systems]
    made_of = digest([*models, *(Path(__file__).parent / name for name in MADE_BY)], joins.name)
    if not scores.exists() or read_json(scores, ("made_of",), "remove it")["made_of"] != made_of:
        write_rows(scores, score_run(output, joins, split), made_of)
    return read_rows(scores)


def digest(paths: Sequence[Path], *words: str) -> str:
    """One for the contents of files and for words."""
    return hashlib.sha256(json.dumps([*map(sha256, paths), *words]).encode()).hexdigest()


def best_window(rows: Rows) -> str | None:
    """The sliding window that is worth most, with which all else is compared."""
    known = {name: value for name, value in worth(rows).items() if ", sliding " in name}
    return max(known, key=lambda name: known[name]) if known else None


def show(output: Path, split: str, text: str) -> None:
    """Write and print tables."""
    write_text(output / f"{split}.md", text)
    print(f"\n{split} speakers\n\n{text}")


@click.command(
    epilog="Example: python examples/frames/benchmark.py examples/frames/emodb.yaml --corpus emodb --output w"
)
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option("--corpus", required=True, type=click.Path(path_type=Path), help="The corpus, as for flea run.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the run, joins and scores.")
@click.option("--cores", default=2, show_default=True, help="Steps side by side.")
@click.option("--set", "changes", multiple=True, help="key=value in EXPERIMENT, as for flea run.")
@click.option("--test", is_flag=True, help="Score test speakers as well: once, after all choices.")
@click.option("--against", help="The system to compare with; the best sliding window if not given.")
def main(
    experiment: Path, corpus: Path, output: Path, cores: int, changes: tuple[str, ...], test: bool, against: str | None
) -> None:
    """Run EXPERIMENT and score every system of it, frame by frame, on joined recordings of held-out speakers.

    A file spans.rttm in the corpus says who is emotional in part only, and is left out; a file voices.tsv, who shall
    be joined with whom.
    """
    benchmark(experiment, corpus, output, cores, changes, test, against)


if __name__ == "__main__":
    run(main)
