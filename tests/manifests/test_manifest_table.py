import pytest

from flea_fairseq.data.corpus import read_corpus

CSV = "path,speaker,emotion,session\nx/a.wav,ann,sad,s1\nx/b.wav,bob,happy,s2\n"


@pytest.fixture
def table(tmp_path, speak):
    """Write a table beside its audio."""

    def write(text, name="labels.csv"):
        speak(tmp_path / "x/a.wav")
        speak(tmp_path / "x/b.wav")
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def rows(tmp_path):
    corpus = read_corpus(tmp_path / "out/corpus.tsv")
    return [(u.id, u.path, u.speaker, u.session, u.emotion) for u in corpus.utterances]


BOTH = [("a", "x/a.wav", "ann", "s1", "sad"), ("b", "x/b.wav", "bob", "s2", "happy")]


@pytest.mark.parametrize(
    "name, text",
    [
        ("labels.csv", CSV),
        ("labels.csv", CSV.replace("\n", "\r\n")),
        ("labels.csv", CSV.replace(",", ";")),
        ("labels.tsv", CSV.replace(",", "\t")),
        ("labels.txt", CSV.replace(",", "|") + "\n"),
        ("labels.csv", 'path,speaker,emotion,session\n"x/a.wav",ann, sad ,s1\nx/b.wav,bob,happy,s2'),
    ],
)
def test_delimiters(table, tmp_path, run_script, name, text):
    done = run_script("table", table(text, name))
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path) == BOTH


def test_columns_of_other_names_and_another_root(table, tmp_path, run_script):
    path = table("file,who,label,fold\na.wav,ann,sad,s1\nb.wav,bob,happy,s2\n")
    options = ["--path", "file", "--speaker", "who", "--emotion", "label", "--session", "fold"]
    done = run_script("table", path, "--root", tmp_path / "x", *options)
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path) == [("a", "a.wav", "ann", "s1", "sad"), ("b", "b.wav", "bob", "s2", "happy")]


def test_session_may_be_missing(table, tmp_path, run_script):
    path = table("path,speaker,emotion\nx/a.wav,ann,sad\n")
    assert run_script("table", path).returncode == 0
    assert rows(tmp_path) == [("a", "x/a.wav", "ann", "", "sad")]


def test_ids_of_the_table_and_repeated_file_names(table, tmp_path, run_script, speak):
    path = table("id,path,speaker,emotion\nu1,x/a.wav,ann,sad\nu2,x/b.wav,bob,sad\n")
    assert run_script("table", path).returncode == 0
    assert [row[:2] for row in rows(tmp_path)] == [("u1", "u1.flac"), ("u2", "u2.flac")]
    speak(tmp_path / "y/a.wav")
    path = table("path,speaker,emotion\nx/a.wav,ann,sad\ny/a.wav,bob,sad\n")
    assert run_script("table", path).returncode == 0
    assert [row[:2] for row in rows(tmp_path)] == [("x_a", "x_a.flac"), ("y_a", "y_a.flac")]


@pytest.mark.parametrize(
    "text, options, words",
    [
        ("", [], ["labels.csv: the file is empty"]),
        (CSV + "x/c.wav,cid,sad\n", [], ["labels.csv:4: 3 columns, expected 4"]),
        (CSV + "x/c.wav,,sad,s1\n", [], ["labels.csv:4: speaker is empty"]),
        (CSV.replace("emotion", "label"), [], ["labels.csv:1: 0 columns named 'emotion'", "--emotion"]),
        (CSV.replace("session", "speaker"), [], ["labels.csv:1: 2 columns named 'speaker'"]),
        (CSV, ["--session", "fold"], ["labels.csv:1: 0 columns named 'fold'"]),
        (CSV + '"x/c.wav,cid,sad,s1\n', [], ["labels.csv:4: "]),
        (CSV.replace("x/a", "../a"), [], ["'../a.wav' leaves the corpus root"]),
        (CSV.replace("sad", "very sad"), [], ["one word"]),
    ],
)
def test_mistakes_are_named_with_their_line(table, run_script, fails, text, options, words):
    fails(run_script("table", table(text), *options), *words)


def test_no_table(tmp_path, run_script, fails):
    fails(run_script("table", tmp_path / "labels.csv"), "no such file")
