from pathlib import Path

import pytest

from flea_fairseq.data.corpus import Corpus, Utterance, read_corpus, write_corpus
from flea_fairseq.errors import FormatError

HEADER = "# root: /data/emo\nid\tpath\tframes\tspeaker\tsession\temotion\n"
ROWS = "a1\twav/a1.wav\t16000\tann\ts1\thappy\nb 2\tb 2.flac\t800\tbob\t\tsad\n"
CORPUS = Corpus(
    Path("/data/emo"),
    (
        Utterance("a1", "wav/a1.wav", 16000, "ann", "s1", "happy"),
        Utterance("b 2", "b 2.flac", 800, "bob", "", "sad"),
    ),
)


def test_file_and_corpus_say_the_same(tmp_path):
    write_corpus(tmp_path / "corpus.tsv", CORPUS)
    assert (tmp_path / "corpus.tsv").read_text() == HEADER + ROWS
    assert read_corpus(tmp_path / "corpus.tsv") == CORPUS
    assert CORPUS.emotions() == ["happy", "sad"]


@pytest.mark.parametrize("change", [lambda b: b.replace(b"\n", b"\r\n"), lambda b: b"\xef\xbb\xbf" + b, bytes.strip])
def test_windows_line_ends_byte_order_mark_and_a_missing_last_line_end(tmp_path, change):
    (tmp_path / "corpus.tsv").write_bytes(change((HEADER + ROWS).encode()))
    assert read_corpus(tmp_path / "corpus.tsv") == CORPUS


@pytest.mark.parametrize(
    "text, line, what",
    [
        ("", "", "empty"),
        (HEADER, "", "without utterances"),
        (ROWS, ":1", "# root: "),
        (HEADER.replace("/data", "data") + ROWS, ":1", "absolute"),
        ("# root: /data/emo\n" + ROWS, ":2", "header"),
        (HEADER + ROWS + "c\tc.wav\t800\tcid\tsad\n", ":5", "5 columns"),
        (HEADER + ROWS + "\n", ":5", "1 columns"),
        (HEADER + ROWS.replace("800", "8e2"), ":4", "'8e2'"),
        (HEADER + ROWS.replace("800", "0"), ":4", "'0'"),
        (HEADER + ROWS.replace("800", "-5"), ":4", "'-5'"),
        (HEADER + ROWS + "a1\tother/a1.wav\t800\tcid\t\tsad\n", ":5", "line 3"),
        (HEADER + ROWS.replace("wav/a1", "/wav/a1"), ":3", "leaves the corpus root"),
        (HEADER + ROWS.replace("wav/a1", "wav/../../a1"), ":3", "leaves the corpus root"),
        (HEADER + ROWS.replace("a1\twav", "x1\twav"), ":3", "'a1'"),
        (HEADER + ROWS.replace("ann", ""), ":3", "speaker"),
        (HEADER + ROWS.replace("sad", "very sad"), ":4", "one word"),
        (HEADER + ROWS.replace("sad", "sad "), ":4", "space"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, line, what):
    path = tmp_path / "corpus.tsv"
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        read_corpus(path)
    assert str(caught.value).startswith(f"{path}{line}: ") and what in str(caught.value)


def test_missing_file_and_binary_file(tmp_path):
    with pytest.raises(FormatError, match="no such file"):
        read_corpus(tmp_path / "corpus.tsv")
    (tmp_path / "corpus.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="UTF-8"):
        read_corpus(tmp_path / "corpus.tsv")


@pytest.mark.parametrize(
    "utterance",
    [
        Utterance("a", "a.wav", 800, "ann\tlee", "", "sad"),
        Utterance("a", "a.wav", 800, "ann", "s\n1", "sad"),
        Utterance("a", "a.wav", 800, "ann", "", "sad\r"),
        Utterance("a\tb", "a\tb.wav", 800, "ann", "", "sad"),
        Utterance("a", "../a.wav", 800, "ann", "", "sad"),
        Utterance("a", "a.wav", 0, "ann", "", "sad"),
    ],
)
def test_nothing_is_written_that_could_not_be_read_back(tmp_path, utterance):
    with pytest.raises(FormatError):
        write_corpus(tmp_path / "corpus.tsv", Corpus(Path("/data"), (utterance,)))
    assert list(tmp_path.iterdir()) == []


def test_relative_root_is_not_written(tmp_path):
    with pytest.raises(FormatError, match="absolute"):
        write_corpus(tmp_path / "corpus.tsv", Corpus(Path("data"), CORPUS.utterances))
