import csv
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import soundfile

from flea_fairseq.data.corpus import read_corpus
from flea_fairseq.data.folds import folds
from flea_fairseq.data.manifest import read_labels, read_manifest

DEFAULT = Path(__file__).resolve().parents[2].parent / "shared/corpora/emodb"


@pytest.fixture
def emodb():
    root = Path(os.environ.get("EMODB", DEFAULT))
    if not (root / "labels_flac.csv").is_file():
        pytest.skip(f"no EmoDB recordings in {root}; set EMODB to the corpus's folder")
    return root


@pytest.mark.parametrize("options, classes", [([], 4), (["--all-emotions"], 7)])
def test_real_recordings_agree_with_the_published_table(emodb, tmp_path, run_script, options, classes):
    done = run_script("emodb", emodb, *options)
    assert done.returncode == 0, done.stderr
    corpus = read_corpus(tmp_path / "out/corpus.tsv")
    with open(emodb / "labels_flac.csv", newline="") as file:
        table = list(csv.DictReader(file))
    kept = set(corpus.emotions())
    assert len(kept) == classes and kept >= {"angry", "happy", "neutral", "sad"}
    ours = [(u.path, u.speaker, u.emotion, u.id, u.frames) for u in corpus.utterances]
    assert ours == sorted(
        (row["path"], row["speaker"], row["emotion"], row["utterance_id"], int(row["num_samples"]))
        for row in table
        if row["emotion"] in kept
    )
    assert corpus.root == emodb.resolve()


def test_sessions_are_pairs_of_a_man_and_a_woman(emodb, tmp_path, run_script):
    assert run_script("emodb", emodb).returncode == 0
    with open(emodb / "metadata.csv", newline="") as file:
        gender = {row["speaker"]: row["gender"] for row in csv.DictReader(file)}
    speakers = defaultdict(set)
    for utterance in read_corpus(tmp_path / "out/corpus.tsv").utterances:
        speakers[utterance.session].add(utterance.speaker)
    assert set(speakers) == {"03+08", "10+09", "11+13", "12+14", "15+16"}
    for session, pair in speakers.items():
        assert session.split("+")[0] in pair and sorted(gender[speaker] for speaker in pair) == ["f", "m"]


def test_folds_of_the_real_corpus(emodb, tmp_path, run_script):
    assert run_script("emodb", emodb).returncode == 0
    assert folds(tmp_path / "out/corpus.tsv", tmp_path / "folds") == ["03-08", "10-09", "11-13", "12-14", "15-16"]
    tested = Counter()
    for folder in (path.parent for path in (tmp_path / "folds").glob("*/fold.json")):
        manifest = read_manifest(folder / "test.tsv")
        assert {Path(name).name[:2] for name in manifest.names} == set(folder.name.split("-"))
        assert soundfile.info(manifest.paths()[0]).frames == manifest.frames[0]
        tested.update(read_labels(folder / "test.emo"))
    assert tested == {"angry": 127, "neutral": 79, "happy": 71, "sad": 62}


def test_original_layout(tmp_path, run_script, speak, fails):
    root = tmp_path / "emodb"
    for name in ("03a01Fa", "08b10Wb", "16a04Lc"):
        speak(root / f"wav/{name}.wav")
    speak(root / "wav/._03a01Fa.wav")
    (root / "erklaerung.txt").write_text("Erklaerung\n")
    fails(run_script("emodb", root), "angry 1 (full release: 127)", "--subset")
    done = run_script("emodb", root, "--subset")
    assert done.returncode == 0 and "warning" in done.stderr
    corpus = read_corpus(tmp_path / "out/corpus.tsv")
    assert [(u.id, u.path, u.speaker, u.session, u.emotion) for u in corpus.utterances] == [
        ("03a01Fa", "wav/03a01Fa.wav", "03", "03+08", "happy"),
        ("08b10Wb", "wav/08b10Wb.wav", "08", "03+08", "angry"),
    ]


@pytest.mark.parametrize("name", ["03a01Xa", "99a01Fa", "hello"])
def test_foreign_file_is_named(tmp_path, run_script, speak, fails, name):
    speak(tmp_path / f"emodb/wav/{name}.wav")
    fails(run_script("emodb", tmp_path / "emodb", "--subset"), f"wav/{name}.wav: not an EmoDB name")


def test_empty_folder(tmp_path, run_script, fails):
    fails(run_script("emodb", tmp_path), "no .wav or .flac files")
