"""Spans of emotions: RTTM lines, TextGrids that Praat wrote."""

import parselmouth
import pytest

from flea_fairseq.data.spans import Span, merged, read_rttm, read_spans, rttm_line
from flea_fairseq.errors import FormatError


def rttm(utterance: str, start: float, duration: float, emotion: str) -> str:
    return f"SPEAKER {utterance} 1 {start} {duration} <NA> <NA> {emotion} <NA> <NA>\n"


def test_rttm_lines_are_read(tmp_path):
    (tmp_path / "s.rttm").write_text(rttm("a", 0.5, 1.25, "sad") + rttm("b", 0, 1, "angry") + rttm("a", 3, 1, "happy"))
    assert read_rttm(tmp_path / "s.rttm") == {
        "a": [Span(0.5, 1.75, "sad"), Span(3, 4, "happy")],
        "b": [Span(0, 1, "angry")],
    }


@pytest.mark.parametrize(
    "line",
    [
        "SPEAKER b 1 0.5 1.0 <NA> <NA> sad <NA>",
        "SPEAKER b 1 zero 1.0 <NA> <NA> sad <NA> <NA>",
        "SPEAKER b 1 0.5 -1.0 <NA> <NA> sad <NA> <NA>",
        "SPEAKER b 1 nan 1.0 <NA> <NA> sad <NA> <NA>",
        "LEXEME b 1 0.5 1.0 <NA> <NA> sad <NA> <NA>",
        "",
    ],
)
def test_another_line_is_named(tmp_path, line):
    (tmp_path / "s.rttm").write_text(rttm("a", 0.5, 1, "sad") + line + "\n")
    with pytest.raises(FormatError, match="s.rttm:2: .*expected `SPEAKER <utterance id>"):
        read_rttm(tmp_path / "s.rttm")


def praat(folder, tier: str = "emotion"):
    """A TextGrid of Praat's own: a sad second after half a second of nothing, then angry."""
    grid = parselmouth.praat.call("Create TextGrid", 0, 3, f"{tier} words", "")
    for second in (0.5, 1.5):
        parselmouth.praat.call(grid, "Insert boundary", 1, second)
    for number, text in ((2, "sad"), (3, 'angry "very"')):
        parselmouth.praat.call(grid, "Set interval text", 1, number, text)
    grid.save(str(folder / "a.TextGrid"))


def test_textgrids_of_praat_are_read(tmp_path):
    praat(tmp_path)
    assert read_spans(tmp_path) == {"a": [Span(0.5, 1.5, "sad"), Span(1.5, 3, 'angry "very"')]}


def test_other_textgrids_are_named(tmp_path):
    with pytest.raises(FormatError, match="holds no .TextGrid"):
        read_spans(tmp_path)
    praat(tmp_path, "mood")
    with pytest.raises(FormatError, match="a.TextGrid: tiers mood, words, expected an interval tier named 'emotion'"):
        read_spans(tmp_path)
    (tmp_path / "a.TextGrid").write_text("hello")
    with pytest.raises(FormatError, match="a.TextGrid:1: .* not a TextGrid"):
        read_spans(tmp_path)


def test_what_is_written_is_read(tmp_path):
    (tmp_path / "s.rttm").write_text(rttm_line("my file", Span(0.5, 1.75, "very sad")))
    assert read_rttm(tmp_path / "s.rttm") == {"my_file": [Span(0.5, 1.75, "very_sad")]}


def test_spans_that_touch_are_one():
    assert merged([Span(1, 2, "sad"), Span(0, 1, "sad"), Span(2, 3, "angry"), Span(4, 5, "angry")]) == [
        Span(0, 2, "sad"), Span(2, 3, "angry"), Span(4, 5, "angry"),
    ]  # fmt: skip
