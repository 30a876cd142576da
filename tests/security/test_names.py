"""Every verb with hostile names of files, and names of a corpus that would leave the output folder."""

import csv
import io
import json
import zlib
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from names import CANARY, CONTROL, HOSTILE, IMAGE, LEAVING, SCRIPT, TOUCH, WORDS, canaries, listing

from flea_fairseq.cli import flea
from flea_fairseq.data.corpus import Corpus, Utterance, read_corpus, write_corpus
from flea_fairseq.data.folds import folds
from flea_fairseq.data.manifest import Manifest, write_manifest
from flea_fairseq.data.prepare import Entry, prepare
from flea_fairseq.data.spans import read_rttm, read_textgrid
from flea_fairseq.errors import AudioError, CorpusError, FormatError, printable
from flea_fairseq.inference.formats import FORMATS
from flea_fairseq.inference.predict import find_recordings, predict
from flea_fairseq.inference.recognizer import EmotionRecognizer

ABSENT = f"-absent {HOSTILE}\n\x1b[2J\u202e"
NUMBERS = {"--shards": "1", "--clusters": "2", "--layer": "1", "--hours-of-audio": "1"}


def noise(path: Path, seconds: float = 0.7, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(zlib.crc32(path.name.encode("utf-8", "replace")))
    with open(path, "wb") as file:
        soundfile.write(file, random.standard_normal(int(seconds * rate)) * 0.05, rate, format="WAV")
    return path


@pytest.mark.parametrize("verb", sorted(set(flea.commands) - {"user-dir", "fetch", "app"}))
def test_a_verb_of_files_that_are_not_there_ends_in_one_printable_line(verb, tmp_path, monkeypatch):
    """All its arguments and options are the same hostile name."""
    monkeypatch.chdir(tmp_path)
    words, arguments = [verb], []
    for parameter in flea.commands[verb].params:
        if isinstance(parameter, click.Argument):
            arguments.append("a.b=1" if parameter.name == "settings" else ABSENT)
        elif parameter.opts[0] in NUMBERS:
            words += [parameter.opts[0], NUMBERS[parameter.opts[0]]]
        elif parameter.required or parameter.type.name in ("path", "text"):
            words += [parameter.opts[0], "onnx" if parameter.name == "target" else ABSENT]
    done = CliRunner().invoke(flea, [*words, "--", *arguments])
    said = done.stderr.splitlines() or [""]
    assert done.exit_code == 1 and said[-1].startswith("error: "), done.output
    assert all(line.isprintable() for line in said) and "Traceback" not in done.stderr
    assert canaries(tmp_path) == []


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A folder with corpus.tsv, and 24 hostile recordings of four hostile emotions."""
    folder = tmp_path_factory.mktemp("names") / HOSTILE
    utterances = []
    for i in range(24):
        name = f"-{i} {HOSTILE}"
        noise(folder / f"{name}.wav")
        utterances.append(
            Utterance(name, f"{name}.wav", 11200, f"-{i % 6} {TOUCH}", f"-{i % 3} {IMAGE}", WORDS[i // 6])
        )
    write_corpus(folder / "-corpus.tsv", Corpus(folder, tuple(utterances)))
    return folder


def test_the_steps_take_hostile_names(corpus, save_classifier, monkeypatch):
    """From a table to a model's page, in a folder of such a name, by names that begin with a dash."""
    monkeypatch.chdir(corpus)
    wave = f"-0 {HOSTILE}.wav"
    beside = {path.name for path in corpus.parent.iterdir()}

    def run(verb: str, *words: str, options: tuple[str, ...] = ()) -> str:
        done = CliRunner().invoke(flea, [verb, *options, "--", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    fold = run("folds", "-corpus.tsv", "-folds").strip().split(", ")[0]
    assert fold.startswith("-0--img-src")
    at = f"-folds/{fold}"
    run("shard", f"{at}/ssl.tsv", "-shards", options=("--shards", "2"))
    run("cluster", f"{at}/ssl.tsv", f"{at}/test.tsv", "-units", options=("--mfcc", "--clusters", "2"))
    run("fit", f"{at}/ssl.tsv", "-fitted", options=("--mfcc", "--clusters", "2"))
    run("extract", f"{at}/ssl.tsv", "-features", options=("--mfcc",))
    run("kmeans", "-features/mfcc", "ssl", "-kmeans.npz", options=("--clusters", "2"))
    run("label", "-features/mfcc", "ssl", f"{at}/ssl.tsv", "-kmeans.npz", "-labels")
    run(
        "score-units", f"{at}/ssl.tsv", "-units/mfcc/ssl.km2", "-corpus.tsv", "-units.json", options=("--clusters", "2")
    )
    run("baseline", f"{at}/train.tsv", f"{at}/test.tsv", "-baseline.tsv")
    compared = run("compare", "-baseline.tsv", "-baseline.tsv")
    assert "-baseline.tsv" in compared
    header, *rows = (line.split("\t") for line in (corpus / "-baseline.tsv").read_text().splitlines())
    known = {utterance.id: utterance.emotion for utterance in read_corpus(corpus / "-corpus.tsv").utterances}
    assert header[3:] == sorted(WORDS) and all(known[row[0]] == row[1] for row in rows) and len(rows) == 8

    save_classifier(corpus / "-model.pt")
    said = run("predict", "-model.pt", wave, options=("--no-frames",))
    assert json.loads(said)["id"] == wave.removesuffix(".wav")
    run("predict", "-model.pt", wave, options=("--format", "textgrid", "--output", "-out", "--plot", "-plots"))
    assert {path.name for path in (corpus / "-out").iterdir()} == {f"-0 {HOSTILE}.TextGrid"}
    assert canaries(corpus.parent) == [] and {path.name for path in corpus.parent.iterdir()} == beside


@pytest.mark.parametrize("name", LEAVING)
@pytest.mark.parametrize("rate", [8000, 16000])
def test_ids_that_leave_the_output_folder_are_refused(tmp_path, name, rate):
    """Converted audio is named by the id."""
    noise(tmp_path / "corpus/x.wav", rate=rate)
    before = listing(tmp_path)
    with pytest.raises(CorpusError, match="expected its file's name|too long|is empty|leaves the corpus root"):
        prepare(tmp_path / "corpus", [Entry(name, "x.wav", "s", "", "sad")], tmp_path / "out/corpus.tsv")
    assert listing(tmp_path) == before


@pytest.mark.parametrize("kind", CONTROL)
@pytest.mark.parametrize("column", ["id", "path", "speaker", "session", "emotion"])
def test_control_characters_are_refused_by_column(tmp_path, kind, column):
    """With the line of a table that holds them; a tab or newline there is another column or line."""
    noise(tmp_path / "x.wav")
    entry = Entry("x", "x.wav", "s", "1", "sad")._replace(**{column: CONTROL[kind]})
    called = "path" if column == "id" else column  # the id is the name of the converted file
    with pytest.raises(CorpusError, match=f"{called} .*control character") as error:
        prepare(tmp_path, [entry], tmp_path / "out/corpus.tsv")
    assert str(error.value).isprintable() and not (tmp_path / "out").exists()
    row = {"id": "x", "path": "x.wav", "frames": "400", "speaker": "s", "session": "1", "emotion": "sad"}
    text = "\t".join({**row, column: CONTROL[kind]}.values())
    (tmp_path / "corpus.tsv").write_text(f"# root: {tmp_path}\n" + "\t".join(row) + f"\n{text}\n")
    with pytest.raises(FormatError, match="corpus.tsv:[34]: "):
        read_corpus(tmp_path / "corpus.tsv")


@pytest.mark.parametrize(
    "name", [name for name in LEAVING if len(name) < 200 and name] + [HOSTILE, SCRIPT, "CON", "-x"]
)
def test_folders_of_folds_stay_in_theirs(tmp_path, name):
    """Their names are the sessions'."""
    utterances = [
        Utterance(f"{i}", f"{i}.wav", 400, f"s{i % 3}", (name, "1", "2")[i % 3], ("sad", "angry")[i // 3 % 2])
        for i in range(12)
    ]
    for utterance in utterances:
        noise(tmp_path / utterance.path)
    write_corpus(tmp_path / "corpus.tsv", Corpus(tmp_path, tuple(utterances)))
    before = listing(tmp_path)
    made = folds(tmp_path / "corpus.tsv", tmp_path / "folds")
    assert {path.name for path in (tmp_path / "folds").iterdir()} == {*made, "index.json"} and len(made) == 3
    assert before == {entry for entry in listing(tmp_path) if "/folds/" not in entry[0]}


def test_an_emotion_that_a_config_would_resolve_is_refused(tmp_path):
    utterance = Utterance("x", "x.wav", 400, "s", "1", "${oc.env:HOME}")
    with pytest.raises(FormatError, match="emotion .* reference"):
        write_corpus(tmp_path / "corpus.tsv", Corpus(tmp_path, (utterance,)))


@pytest.mark.parametrize("name", [name for name in LEAVING if len(name) > 200] + list(CONTROL.values()))
def test_a_manifest_holds_no_name_that_no_file_can_have(tmp_path, name):
    with pytest.raises(FormatError, match=":2: name .* (too long|control character)"):
        write_manifest(tmp_path / "x.tsv", Manifest(tmp_path, (name,), (400,)))


@pytest.fixture(scope="module")
def hostile_classes(save_classifier, tmp_path_factory) -> EmotionRecognizer:
    """A model whose classes are HTML, a quote, a leading dash, a leaving path."""
    recognizer = EmotionRecognizer.from_pretrained(save_classifier(tmp_path_factory.mktemp("model") / "model.pt"))
    recognizer.model.classes = (IMAGE, f"\",;'{TOUCH}", "-../../x", SCRIPT)
    return recognizer


def test_recordings_of_any_name_stay_in_the_output_folder(hostile_classes, tmp_path):
    names = [f"-{HOSTILE}", "=1+1", "~", "sub/-", "<script>", "x/a..", "x.y/z"]
    names += [name for name in CONTROL.values() if "\0" not in name]
    for name in names:
        noise(tmp_path / "in" / f"{name}.wav", 0.5)
    dotted = [str(noise(tmp_path / "dots" / f"{name}.wav", 0.5)) for name in (".", "..", "...")]  # hidden in a folder
    before = listing(tmp_path)
    for format in FORMATS:
        predict(hostile_classes, [str(tmp_path / "in"), *dotted], format, tmp_path / "out" / format)
        made = list((tmp_path / "out" / format).rglob("*.*"))
        made = [path for path in made if path.is_file()]
        assert len(made) == len(names) + len(dotted) and all(path.name.isprintable() for path in made)
    assert before == {entry for entry in listing(tmp_path) if not entry[0].startswith(f"{tmp_path}/out/")}
    assert canaries(tmp_path) == []
    with pytest.raises(AudioError, match="no UTF-8"):
        hostile_classes.predict_file(noise(tmp_path / "a\udcffb.wav"))
    with pytest.raises(AudioError, match="has the name of"):
        noise(tmp_path / "in" / "a\\nb.wav")  # as `a<newline>b` is written
        find_recordings([str(tmp_path / "in")])


def test_every_format_holds_hostile_classes(hostile_classes, tmp_path, capsys):
    path = noise(tmp_path / f"x {IMAGE}.wav", 2)
    said = hostile_classes.predict_file(path, path.stem)
    texts = {name: chosen.header(said) + chosen.render(said) for name, chosen in FORMATS.items()}
    rows = list(csv.reader(io.StringIO(texts["csv"])))
    assert rows[0][3:-1] == list(said.classes) and {len(row) for row in rows} == {len(rows[0])}
    assert {row[0] for row in rows[1:]} == {path.stem}
    values = json.loads(texts["json"])
    assert values["id"] == path.stem and list(values["probabilities"]) == list(said.classes)
    (tmp_path / "x.rttm").write_text(texts["rttm"])
    ((_, spans),) = read_rttm(tmp_path / "x.rttm").items()
    assert {span.emotion for span in spans} <= {"_".join(name.split()) for name in said.classes}
    (tmp_path / "x.TextGrid").write_text(texts["textgrid"])
    assert {span.emotion for span in read_textgrid(tmp_path / "x.TextGrid")} <= set(said.classes)
    assert all(len(line.split("\t")) == 3 for line in texts["audacity"].splitlines())
    predict(hostile_classes, [str(path)])
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


def test_control_characters_are_written_out():
    assert printable("a\x1b[2J\n\t\u202e\udcff é😀") == "a\\x1b[2J\\n\\t\\u202e\\udcff é😀"
    assert CANARY in HOSTILE
