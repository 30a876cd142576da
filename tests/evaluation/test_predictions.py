"""predictions.tsv: what is written, what comes back, and what is refused."""

import csv

import numpy as np
import pytest

from flea_fairseq.errors import FormatError
from flea_fairseq.evaluation.predictions import Predictions, read_predictions, write_predictions

CLASSES = ("angry", "happy", "sad")
EXAMPLE = Predictions(
    ("a", "b", "c"),
    ("sad", "angry", "happy"),
    CLASSES,
    np.array([[0.1, 0.2, 0.7], [0.4, 0.35, 0.25], [0.5, 0.2, 0.3]]),
)


def test_the_file_is_a_plain_table(tmp_path):
    write_predictions(tmp_path / "p.tsv", EXAMPLE)
    with open(tmp_path / "p.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows[0] == {
        "id": "a", "truth": "sad", "prediction": "sad", "angry": "0.100000", "happy": "0.200000", "sad": "0.700000",
    }  # fmt: skip
    assert [row["prediction"] for row in rows] == ["sad", "angry", "angry"]


def test_what_is_written_comes_back(tmp_path):
    random = np.random.default_rng(0)
    made = Predictions(
        tuple(f"u{i}" for i in range(50)), tuple(random.choice(CLASSES, 50)), CLASSES, random.dirichlet([1, 1, 1], 50)
    )
    write_predictions(tmp_path / "p.tsv", made)
    back = read_predictions(tmp_path / "p.tsv")
    assert (back.ids, back.truth, back.classes, back.predicted) == (made.ids, made.truth, made.classes, made.predicted)
    assert np.abs(back.probabilities - made.probabilities).max() <= 5e-7


def test_a_tie_that_rounding_makes_reads_back(tmp_path):
    made = Predictions(("a",), ("sad",), CLASSES, np.array([[0.4, 0.4 + 1e-9, 0.2 - 1e-9]]))
    write_predictions(tmp_path / "p.tsv", made)
    assert read_predictions(tmp_path / "p.tsv").predicted == ("angry",)


@pytest.mark.parametrize(
    ("line", "text", "problem"),
    [
        (1, "id\ttruth\tangry", "p.tsv:1: header"),
        (2, "a\tsad\tsad\t0.1\t0.9", "p.tsv:2: 5 columns, expected 6"),
        (3, "b\tbored\tangry\t0.4\t0.3\t0.3", "p.tsv:3: truth 'bored', expected one of"),
        (3, "b\tangry\tangry\t0.4\tmuch\t0.3", "p.tsv:3: .*'much'"),
        (3, "b\tangry\tangry\tnan\t0.3\t0.3", "p.tsv:3: probabilities nan"),
        (4, "c\thappy\tsad\t0.5\t0.2\t0.3", "p.tsv:4: prediction 'sad' is not the most probable"),
        (4, "a\thappy\tangry\t0.5\t0.2\t0.3", "utterance 'a' is there twice"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path, line, text, problem):
    path = tmp_path / "p.tsv"
    write_predictions(path, EXAMPLE)
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(FormatError, match=problem):
        read_predictions(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FormatError, match="p.tsv: no such file"):
        read_predictions(tmp_path / "p.tsv")


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="expected"):
        Predictions(("a",), ("sad",), CLASSES, np.zeros((2, 3)))
