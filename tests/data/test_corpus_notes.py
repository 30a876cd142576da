from collections.abc import Sequence
from pathlib import Path

import pytest

from flea_fairseq.data.corpus import Corpus, Utterance
from flea_fairseq.data.corpus_notes import identical_audio, notes, one_class_speakers
from flea_fairseq.errors import CorpusError


def corpus_of(root: Path, rows: Sequence[tuple[str, str, str, int, bytes]]) -> Corpus:
    """rows: id, speaker, emotion, frames, what the file holds."""
    for id_, *_, content in rows:
        (root / f"{id_}.wav").write_bytes(content)
    return Corpus(root, tuple(Utterance(id_, f"{id_}.wav", frames, who, "", how) for id_, who, how, frames, _ in rows))


def test_speakers_of_one_class_are_found(tmp_path):
    corpus = corpus_of(
        tmp_path,
        [("a1", "ann", "sad", 9, b"1"), ("a2", "ann", "sad", 9, b"2"), ("b1", "bob", "sad", 9, b"3"),
         ("b2", "bob", "happy", 9, b"4"), ("c1", "cid", "happy", 9, b"5")],
    )  # fmt: skip
    assert one_class_speakers(corpus) == {"ann": "sad", "cid": "happy"}
    assert "ann (sad), cid (happy)" in notes(one_class_speakers(corpus), ())[0]
    assert one_class_speakers(Corpus(tmp_path, corpus.utterances[:3])) == {}  # nothing to tell apart


def test_equal_files_are_found_and_only_those(tmp_path):
    corpus = corpus_of(
        tmp_path,
        [("a1", "ann", "sad", 9, b"same"), ("a2", "ann", "sad", 9, b"else"), ("b1", "bob", "happy", 9, b"same"),
         ("b2", "bob", "happy", 5, b"alone"), ("c1", "cid", "sad", 9, b"same")],
    )  # fmt: skip
    groups = identical_audio(corpus)
    assert [[u.id for u in group] for group in groups] == [["a1", "b1", "c1"]]
    assert notes({}, groups) == [
        "the same audio is there 3 times, under different emotions (happy, sad): a1.wav, b1.wav, c1.wav"
    ]


def test_a_missing_file_is_named(tmp_path):
    corpus = corpus_of(tmp_path, [("a1", "ann", "sad", 9, b"x"), ("a2", "ann", "sad", 9, b"y")])
    (tmp_path / "a2.wav").unlink()
    with pytest.raises(CorpusError, match="a2.wav: cannot be read"):
        identical_audio(corpus)
