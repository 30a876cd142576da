import hashlib
import json
from dataclasses import replace

import pytest
from fairseq.data import Dictionary
from fairseq.data.audio.hubert_dataset import load_audio

from flea_fairseq.data.corpus import Corpus, Utterance, read_corpus, write_corpus
from flea_fairseq.data.folds import check_fold, fold_hash, folds
from flea_fairseq.data.protocols import split
from flea_fairseq.errors import CorpusError, FormatError, WriteError

SPEAKERS = {"s1": ("ann", "bob"), "s2": ("cid", "dot"), "s3": ("eve", "fay")}


@pytest.fixture
def corpus(tmp_path):
    utterances = tuple(
        Utterance(f"{speaker}_{emotion}", f"wav/{speaker}_{emotion}.wav", frames, speaker, session, emotion)
        for session, speakers in SPEAKERS.items()
        for speaker in speakers
        for emotion, frames in (("sad", 16000), ("happy", 32000))
    )
    (tmp_path / "data/wav").mkdir(parents=True)
    for utterance in utterances:
        (tmp_path / "data" / utterance.path).write_text(f"the sound of {utterance.id}")
    write_corpus(tmp_path / "corpus.tsv", Corpus(tmp_path / "data", utterances))
    return tmp_path / "corpus.tsv"


def contents(folder):
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_a_fold_written_out(corpus, tmp_path):
    assert folds(corpus, tmp_path / "folds") == ["s1", "s2", "s3"]
    written = contents(tmp_path / "folds/s3")
    facts = json.loads(written.pop("fold.json"))
    rows = "wav/cid_sad.wav\t16000\nwav/cid_happy.wav\t32000\nwav/dot_sad.wav\t16000\nwav/dot_happy.wav\t32000\n"
    train = f"{tmp_path}/data\n{rows}"
    assert written == {
        "train.tsv": train,
        "ssl.tsv": train,
        "valid.tsv": train.replace("cid", "ann").replace("dot", "bob"),
        "test.tsv": train.replace("cid", "eve").replace("dot", "fay"),
        **{f"{name}.emo": "sad\nhappy\nsad\nhappy\n" for name in ("train", "valid", "test", "ssl")},
        "dict.emo.txt": "happy 1\nsad 1\n",
    }
    assert len(facts.pop("hash")) == 64
    assert facts == {
        "fold": "s3",
        "protocol": "inner",
        "score": "pooled",
        "transductive": False,
        "train_speakers": ["cid", "dot"],
        "valid_speakers": ["ann", "bob"],
        "test_speakers": ["eve", "fay"],
        "n": {"train": 4, "valid": 4, "test": 4, "ssl": 4},
    }


def test_authors_fold_says_how_it_is_scored_and_what_was_heard(corpus, tmp_path):
    assert folds(corpus, tmp_path / "folds", protocol="authors") == ["s1", "s2", "s3"]
    facts = json.loads((tmp_path / "folds/s2/fold.json").read_text())
    assert (facts["score"], facts["transductive"]) == ("mean_of_speakers", True)
    assert (facts["valid_speakers"], facts["test_speakers"]) == (["cid"], ["cid", "dot"])
    assert facts["n"] == {"train": 8, "valid": 2, "test": 4, "ssl": 12}


def test_transductive_is_written_down(corpus, tmp_path):
    names = folds(corpus, tmp_path / "folds", protocol="paper", transductive=True)
    assert names == ["s1-bob", "s1-ann", "s2-dot", "s2-cid", "s3-fay", "s3-eve"]
    facts = json.loads((tmp_path / "folds/s1-bob/fold.json").read_text())
    assert facts["transductive"] is True and facts["n"]["ssl"] == 12


@pytest.mark.parametrize("settings", [{}, {"n_folds": 3, "seed": 4}])
def test_without_sessions_folds_are_groups_of_speakers_by_the_seed(corpus, tmp_path, settings):
    table = read_corpus(corpus)
    table = Corpus(table.root, tuple(replace(utterance, session="") for utterance in table.utterances))
    write_corpus(corpus, table)
    made = split(table, **settings)
    assert folds(corpus, tmp_path / "folds", **settings) == [fold.name for fold in made]
    for fold in made:
        facts = json.loads((tmp_path / "folds" / fold.name / "fold.json").read_text())
        assert facts["test_speakers"] == sorted({utterance.speaker for utterance in fold.test})


def test_the_hash_covers_every_split_file(corpus, tmp_path):
    folds(corpus, tmp_path / "folds")
    folds(corpus, tmp_path / "again")
    assert contents(tmp_path / "folds/s1") == contents(tmp_path / "again/s1")
    folder = tmp_path / "folds/s1"
    names = ["ssl.emo", "ssl.tsv", "test.emo", "test.tsv", "train.emo", "train.tsv", "valid.emo", "valid.tsv",
             "dict.emo.txt"]  # fmt: skip
    parts = [(folder / name).read_text().split("\n", 1)[name.endswith(".tsv")] if name.endswith(".tsv") else
             (folder / name).read_text() for name in names]  # without the root, which is the machine's  # fmt: skip
    sums = "".join(f"{hashlib.sha256(part.encode()).hexdigest()}  {name}\n" for part, name in zip(parts, names))
    hash_ = json.loads((folder / "fold.json").read_text())["hash"]
    assert hash_ == hashlib.sha256(sums.encode()).hexdigest()
    assert hash_ != json.loads((tmp_path / "folds/s2/fold.json").read_text())["hash"]


def test_folds_of_another_split_are_not_mixed_in(corpus, tmp_path):
    folds(corpus, tmp_path / "folds")
    with pytest.raises(CorpusError, match="s1, s2, s3"):
        folds(corpus, tmp_path / "folds", protocol="paper")
    assert sorted(path.name for path in (tmp_path / "folds").iterdir()) == ["index.json", "s1", "s2", "s3"]
    assert folds(corpus, tmp_path / "folds") == ["s1", "s2", "s3"]  # the same split may be written again


def test_folds_of_another_split_are_replaced_when_asked(corpus, tmp_path):
    folds(corpus, tmp_path / "folds")
    (tmp_path / "folds/mine").mkdir()
    made = folds(corpus, tmp_path / "folds", protocol="paper", replace=True)
    assert json.loads((tmp_path / "folds/index.json").read_text()) == made and "s1-ann" in made
    assert sorted(path.name for path in (tmp_path / "folds").iterdir() if path.is_dir()) == sorted(["mine", *made])


def test_folds_that_cannot_be_written_are_left_as_they_were(corpus, tmp_path):
    folds(corpus, tmp_path / "folds")
    (tmp_path / "folds/s1/valid.tsv").unlink()
    (tmp_path / "folds/s1/valid.tsv").mkdir()  # so that writing fails there
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "folds").rglob("*") if path.is_file()}
    with pytest.raises(WriteError, match="s1/valid.tsv: cannot be written: Is a directory; a folder has this name"):
        folds(corpus, tmp_path / "folds", protocol="oracle")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "folds").rglob("*") if path.is_file()} == before


def test_fairseq_reads_a_fold(corpus, tmp_path):
    folds(corpus, tmp_path / "folds")
    folder = tmp_path / "folds/s1"
    root, names, _, total, sizes = load_audio(folder / "test.tsv", None, None)
    assert (root, total, sizes) == (str(tmp_path / "data"), 4, [16000, 32000, 16000, 32000])
    assert names == ["wav/ann_sad.wav", "wav/ann_happy.wav", "wav/bob_sad.wav", "wav/bob_happy.wav"]
    assert Dictionary.load(str(folder / "dict.emo.txt")).symbols[-2:] == ["happy", "sad"]


def test_the_same_audio_on_two_sides_is_refused_by_name(corpus, tmp_path):
    (tmp_path / "data/wav/fay_sad.wav").write_bytes((tmp_path / "data/wav/ann_sad.wav").read_bytes())
    with pytest.raises(CorpusError, match=r"the same audio in both .*: ann_sad = fay_sad; leave all but one"):
        folds(corpus, tmp_path / "folds")
    assert not list((tmp_path / "folds").glob("*/fold.json"))


def test_audio_that_is_there_twice_on_one_side_is_reported(corpus, tmp_path, capsys):
    (tmp_path / "data/wav/bob_sad.wav").write_bytes((tmp_path / "data/wav/ann_sad.wav").read_bytes())
    folds(corpus, tmp_path / "folds")
    assert "note: the same audio is there 2 times: wav/ann_sad.wav, wav/bob_sad.wav\n" == capsys.readouterr().out


def test_a_fold_that_was_tampered_with_is_found(corpus, tmp_path):
    folds(corpus, tmp_path / "folds")
    folder = tmp_path / "folds/s3"
    assert check_fold(folder)["fold"] == "s3"
    written = (folder / "ssl.tsv").read_text()
    (folder / "ssl.tsv").write_text(written + "wav/eve_sad.wav\t16000\n")
    with pytest.raises(CorpusError, match="not those that were split"):
        check_fold(folder)
    facts = json.loads((folder / "fold.json").read_text())
    (folder / "fold.json").write_text(json.dumps({**facts, "hash": fold_hash(folder)}))
    with pytest.raises(CorpusError, match="not transductive, but ssl.tsv has wav/eve_sad.wav of test.tsv"):
        check_fold(folder)
    (folder / "fold.json").write_text("{}")
    with pytest.raises(FormatError, match="lacks fold, protocol, score, transductive, hash; run flea folds again"):
        check_fold(folder)
