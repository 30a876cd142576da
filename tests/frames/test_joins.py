"""The recordings of examples/frames: what is in them, that loudness and order tell nothing, and who is left out."""

from pathlib import Path

import joins
import numpy as np
import pytest
import soundfile

from flea_fairseq.data.corpus import Corpus, Utterance, write_corpus
from flea_fairseq.data.manifest import Manifest, write_dictionary, write_labels, write_manifest
from flea_fairseq.data.spans import Span, read_rttm, rttm_line
from flea_fairseq.errors import CorpusError, FleaError

RATE, TONES = 16000, {"neutral": 300, "angry": 700, "sad": 1500}


@pytest.fixture
def split(tmp_path) -> Path:
    """Two speakers; the emotion of an utterance is its pitch, and every one has another loudness and silent ends."""
    rng, rows = np.random.default_rng(0), []
    for speaker in ("anna", "ben"):
        for emotion, count in {"neutral": 2, "angry": 3, "sad": 2}.items():
            for i in range(count):
                seconds = rng.uniform(1, 2)
                tone = rng.uniform(0.01, 0.3) * np.sin(
                    2 * np.pi * TONES[emotion] * np.arange(int(seconds * RATE)) / RATE
                )
                silence = np.zeros(RATE // 2)
                rows.append((f"{speaker}_{emotion}{i}", speaker, emotion, np.concatenate([silence, tone, silence])))
                soundfile.write(tmp_path / f"{rows[-1][0]}.wav", rows[-1][3], RATE)
    names, frames = tuple(f"{row[0]}.wav" for row in rows), tuple(len(row[3]) for row in rows)
    utterances = tuple(Utterance(r[0], n, f, r[1], r[1], r[2]) for r, n, f in zip(rows, names, frames))
    write_corpus(tmp_path / "corpus.tsv", Corpus(tmp_path, utterances))
    (tmp_path / "fold").mkdir()
    write_manifest(tmp_path / "fold/test.tsv", Manifest(tmp_path, names, frames))
    write_labels(tmp_path / "fold/test.emo", [row[2] for row in rows])
    write_dictionary(tmp_path / "fold/dict.emo.txt", ["angry", "neutral", "sad"])
    return tmp_path / "fold/test.tsv"


def test_every_emotional_utterance_is_joined_twice_and_spans_are_where_its_pitch_is(split, tmp_path):
    made = joins.make_joins(tmp_path / "corpus.tsv", split, tmp_path / "out")
    rows = [line.split("\t") for line in (tmp_path / "out/joins.tsv").read_text().splitlines()]
    assert tuple(rows[0]) == joins.HEADER and len(rows) - 1 == len(made) == 2 * 2 * 5
    spans = read_rttm(tmp_path / "out/spans.rttm")
    for name, speaker, first, second, joint, kind in rows[1:]:
        samples, rate = soundfile.read(tmp_path / f"out/{name}.wav")
        assert rate == RATE and first.startswith(speaker) and second.startswith(speaker)
        one, other = spans[name]
        assert one.end == other.start == pytest.approx(float(joint), abs=1e-3) and other.end == pytest.approx(
            len(samples) / RATE, abs=1e-3
        )
        assert one.emotion != other.emotion and (kind == "neutral") == ("neutral" in (one.emotion, other.emotion))
        for span in (one, other):
            part = samples[int((span.start + 0.05) * RATE) : int((span.end - 0.05) * RATE)]
            spectrum = np.abs(np.fft.rfft(part))
            assert abs(spectrum.argmax() * RATE / len(part) - TONES[span.emotion]) < 5
            assert np.abs(part).max() > 0.5 * np.abs(samples).max()  # no silent ends are left
    kinds = [row[5] for row in rows[1:]]
    assert kinds.count("neutral") == kinds.count("two") == 10


def test_loudness_and_order_tell_nothing(split, tmp_path):
    made = joins.make_joins(tmp_path / "corpus.tsv", split, tmp_path / "out")
    for join in made:
        sides = join.samples[: join.joint - 800], join.samples[join.joint + 800 :]
        frequencies = [TONES[part.emotion] for part in (join.first, join.second)]
        if max(frequencies) < 1000:  # where the weighting of BS.1770 is flat
            levels = [20 * np.log10(np.sqrt(np.mean(side**2))) for side in sides]
            assert abs(levels[0] - levels[1]) < 0.5
    for speaker in ("anna", "ben"):
        mixed = [join for join in made if join.kind == "neutral" and join.first.id.startswith(speaker)]
        assert sorted(
            (sum(j.first.emotion == "neutral" for j in mixed), sum(j.second.emotion == "neutral" for j in mixed))
        ) == [2, 3]
        used = [part.id for join in mixed for part in (join.first, join.second) if part.emotion == "neutral"]
        assert {used.count(f"{speaker}_neutral{i}") for i in (0, 1)} == {2, 3}  # as often as can be


def test_the_same_seed_gives_the_same_and_another_another(split, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        joins.make_joins(tmp_path / "corpus.tsv", split, tmp_path / name, seed=seed)
    files = {name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


def test_who_is_emotional_in_part_only_is_left_out(split, tmp_path):
    spans = {"anna_angry0": Span(0.0, 0.7, "angry"), "anna_angry1": Span(0.0, 9.0, "angry")}
    (tmp_path / "spans.rttm").write_text("".join(rttm_line(name, span) for name, span in spans.items()))
    made = joins.make_joins(tmp_path / "corpus.tsv", split, tmp_path / "out", tmp_path / "spans.rttm")
    used = {part.id for join in made for part in (join.first, join.second)}
    assert "anna_angry0" not in used and "anna_angry1" in used and len(made) == 18


def test_only_what_has_one_voice_is_joined(split, tmp_path):
    """Anna's first of each emotion are of one voice, the rest of another; ben's sad ones are alone in theirs."""
    ids = [line.split("\t")[0].removesuffix(".wav") for line in split.read_text().splitlines()[1:]]
    voices = {name: "first" if name.endswith("0") else "rest" for name in ids}
    voices |= {name: "sad" for name in ids if name.startswith("ben_sad")}
    listed = tmp_path / "voices.tsv"
    listed.write_text("".join(f"{name}\t{voice}\n" for name, voice in voices.items()))
    made = joins.make_joins(tmp_path / "corpus.tsv", split, tmp_path / "out", voices=listed)
    assert all(voices[join.first.id] == voices[join.second.id] for join in made)
    assert {i for join in made for i in (join.first.id, join.second.id)} == set(ids) - {"ben_sad0", "ben_sad1"}
    assert len(made) == 2 * 5 + 3  # ben's angry ones meet only neutral ones
    listed.write_text("\n".join(f"{name}\tx" for name in ids[1:]))
    with pytest.raises(CorpusError, match=f"voices.tsv: no line for 1 utterances, such as {ids[0]}; add one for each"):
        joins.make_joins(tmp_path / "corpus.tsv", split, tmp_path / "two", voices=listed)
    listed.write_text("anna angry\n")
    with pytest.raises(CorpusError, match="voices.tsv:1: 'anna angry', expected an utterance, a tab and its voice"):
        joins.make_joins(tmp_path / "corpus.tsv", split, tmp_path / "two", voices=listed)


def test_what_cannot_be_joined_leaves_nothing(split, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(FleaError, match="there: is there already"):
        joins.make_joins(tmp_path / "corpus.tsv", split, tmp_path / "there")
    write_labels(split.with_suffix(".emo"), ["sad"] * 14)
    with pytest.raises(CorpusError, match="speaker anna: 0 neutral and 7 emotional utterances"):
        joins.make_joins(tmp_path / "corpus.tsv", split, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_parts_too_short_to_be_measured_have_the_level_of_their_energy():
    tone = np.sin(2 * np.pi * 300 * np.arange(RATE // 4) / RATE).astype(np.float32)
    level = 10 * np.log10(np.mean(joins.levelled(tone) ** 2))
    assert level == pytest.approx(joins.LOUDNESS, abs=0.01)
