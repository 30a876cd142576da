"""The whole frame benchmark of one corpus: train, join, score validation speakers, then test speakers, and show.

    python examples/frames/benchmark.py examples/frames/emodb.yaml --corpus /data/emodb --output work/frames/emodb

What is there already is kept: models by their inputs, joins and scores by their names.
"""

import json
import subprocess
import sys
from pathlib import Path

import click
from joins import make_joins
from score import score_run, write_rows
from show import table, utterance_scores

from flea_fairseq.data.files import read_json, write_text
from flea_fairseq.data.prepare import run

SPLITS = ("train", "valid", "test")


def benchmark(experiment: Path, corpus: Path, output: Path, cores: int, changes: tuple[str, ...]) -> None:
    """Write `output/{valid,test}.json` and `.md`. Raises FleaError where a step refuses."""
    words = [word for change in changes for word in ("--set", change)]
    command = ["run", experiment, "--corpus", corpus, "--output", output, "--cores", cores, *words]
    ended = subprocess.run([sys.executable, "-m", "flea_fairseq", *map(str, command)])
    if ended.returncode:
        sys.exit(ended.returncode)  # it has said why
    joins, spans = output / "joins", corpus / "spans.rttm"
    for fold in read_json(output / "run.json", ("experiment",), "run again")["experiment"]["folds"]:
        for split in SPLITS:
            if not (joins / fold / split).exists():
                split_file = output / f"folds/{fold}/{split}.tsv"
                make_joins(output / "corpus.tsv", split_file, joins / fold / split, spans if spans.exists() else None)
    for split in SPLITS[1:]:
        scores = output / f"{split}.json"
        if not scores.exists():
            write_rows(scores, score_run(output, joins, split, ()))
        said = utterance_scores(output / "results.json") if split == "test" else {}
        write_text(output / f"{split}.md", shown := table(json.loads(scores.read_text(encoding="utf-8")), said) + "\n")
        print(f"\n{split} speakers\n\n{shown}")


@click.command(
    epilog="Example: python examples/frames/benchmark.py examples/frames/emodb.yaml --corpus emodb --output w"
)
@click.argument("experiment", type=click.Path(path_type=Path))
@click.option("--corpus", required=True, type=click.Path(path_type=Path), help="The corpus, as for flea run.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the run, joins and scores.")
@click.option("--cores", default=2, show_default=True, help="Steps side by side.")
@click.option("--set", "changes", multiple=True, help="key=value in EXPERIMENT, as for flea run.")
def main(experiment: Path, corpus: Path, output: Path, cores: int, changes: tuple[str, ...]) -> None:
    """Run EXPERIMENT and score every system of it, frame by frame, on joined recordings of held-out speakers."""
    benchmark(experiment, corpus, output, cores, changes)


if __name__ == "__main__":
    run(main)
