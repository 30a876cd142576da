"""TextGrids against Praat itself (parselmouth), and every way in which one can be wrong, by its whole message."""

import parselmouth
import pytest

from flea_fairseq.data.textgrid import Tier, read_tiers
from flea_fairseq.errors import FormatError

HEAD = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 3\n'
TIER = 'tiers? <exists>\nsize = 1\nitem []:\nitem [1]:\nclass = "IntervalTier"\nname = "emotion"\nxmin = 0\nxmax = 3\n'
ADVICE = "; not a TextGrid as Praat writes it, save it again with Praat"


@pytest.mark.parametrize("command", ["Save as text file...", "Save as short text file..."])
def test_tiers_are_what_praat_put_into_them(tmp_path, command):
    grid = parselmouth.praat.call("Create TextGrid", 0, 3, "emotion clicks", "clicks")
    parselmouth.praat.call(grid, "Insert boundary", 1, 1.25)
    parselmouth.praat.call(grid, "Set interval text", 1, 1, ' sad "so" ')
    parselmouth.praat.call(grid, "Insert point", 2, 0.5, "a click")
    parselmouth.praat.call(grid, command, str(tmp_path / "a.TextGrid"))
    expected = [Tier("emotion", [(0.0, 1.25, 'sad "so"'), (1.25, 3.0, "")]), Tier("clicks", None)]
    assert read_tiers(tmp_path / "a.TextGrid") == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_line_ends_and_comments(tmp_path, encoding, end):
    text = HEAD + '! a comment 7 "x" <y>\n' + TIER + 'intervals: size = 1\nxmin = 0\nxmax = 3\ntext = "zornig ä"\n'
    (tmp_path / "a.TextGrid").write_bytes(text.replace("\n", end).encode(encoding))
    assert read_tiers(tmp_path / "a.TextGrid") == [Tier("emotion", [(0.0, 3.0, "zornig ä")])]


def test_a_grid_without_tiers(tmp_path):
    (tmp_path / "a.TextGrid").write_text(HEAD + "tiers? <absent>\n")
    assert read_tiers(tmp_path / "a.TextGrid") == []


INTERVALS = HEAD + TIER + "intervals: size = "
WRONG = {  # text -> line, what is found there, what was expected
    '"Praat" "TextGrid"': (1, "'\"Praat\" \"TextGrid\"'", 'the types "ooTextFile" and "TextGrid"'),
    '"ooTextFile" "Sound"': (1, "'\"Sound\"'", 'the types "ooTextFile" and "TextGrid"'),
    '"ooTextFile"\n7': (2, "'7'", "the object's class in quotes"),
    "7": (1, "'7'", "the file's type in quotes"),
    "": (1, "the file ends here", "the file's type in quotes"),
    '"ooTextFile" "TextGrid"\n"a"': (2, "'\"a\"'", "its start, a number"),
    '"ooTextFile" "TextGrid" 0\n<x>': (2, "'<x>'", "its end, a number"),
    '"ooTextFile" "TextGrid" 0 3\n4': (2, "'4'", "<exists>, whether there are tiers"),
    HEAD + "<exists> 1.5": (6, "'1.5'", "the number of tiers, a whole number"),
    HEAD + "<exists> -1": (6, "'-1'", "the number of tiers, a whole number"),
    HEAD + "<exists>": (6, "the file ends here", "the number of tiers, a number"),
    HEAD + "<exists> 1\n7": (7, "'7'", "a tier's class in quotes"),
    HEAD + '<exists> 1 "IntervalTier"\n7': (7, "'7'", "a tier's name in quotes"),
    HEAD + '<exists> 1 "Tier"\n"a"': (7, "'\"a\"'", 'a tier of class "IntervalTier" or "TextTier"'),
    HEAD + '<exists> 1 "TextTier" "a"\n<b>': (7, "'<b>'", "the tier's start, a number"),
    HEAD + '<exists> 1 "TextTier" "a" 0\n<b>': (7, "'<b>'", "the tier's end, a number"),
    HEAD + '<exists> 1 "TextTier" "a" 0 3\n"b"': (7, "'\"b\"'", "the number of intervals or points, a number"),
    HEAD + '<exists> 1 "TextTier" "a" 0 3 1\n"b"': (7, "'\"b\"'", "a point's time, a number"),
    HEAD + '<exists> 1 "TextTier" "a" 0 3 1 2\n5': (7, "'5'", "a point's text in quotes"),
    INTERVALS + "1\n<b>": (15, "'<b>'", "an interval's start, a number"),
    INTERVALS + "1\n1e999": (15, "'1e999'", "an interval's start, a number that is not infinite"),
    INTERVALS + '1\n0\n"c"': (16, "'\"c\"'", "an interval's end, a number"),
    INTERVALS + "1\n0 1\n2": (16, "'2'", "an interval's text in quotes"),
    INTERVALS + "1\n2\n1": (16, "'1'", "an interval that ends after its start, not 2.0 to 1.0"),
    INTERVALS + "1\n1\n1": (16, "'1'", "an interval that ends after its start, not 1.0 to 1.0"),
    INTERVALS + "1\n-1\n1": (16, "'1'", "an interval that ends after its start, not -1.0 to 1.0"),
    INTERVALS + '1\n0 1\n"sad': (16, "'\"sad'", "a text that ends with a quote"),
    INTERVALS + "1\n0 1\n" + 'x 7 "' + 50 * "y": (16, "'7 \"" + 37 * "y" + "'", "an interval's text in quotes"),
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text):
    line, found, expected = WRONG[text]
    path = tmp_path / "a.TextGrid"
    path.write_text(text)
    with pytest.raises(FormatError) as error:
        read_tiers(path)
    assert str(error.value) == f"{path}:{line}: {found}, expected {expected}{ADVICE}"


def test_what_is_no_text_or_not_there(tmp_path):
    path = tmp_path / "a.TextGrid"
    with pytest.raises(FormatError) as error:
        read_tiers(path)
    assert str(error.value) == f"{path}: no such file, or it cannot be read (No such file or directory)"
    path.write_bytes(b'"ooTextFile"\n\xff')
    with pytest.raises(FormatError) as error:
        read_tiers(path)
    assert str(error.value) == f"{path}:2: not UTF-8 or UTF-16 text; save it again with Praat as UTF-8"
