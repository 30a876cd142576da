from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from flea_fairseq.data.corpus import Corpus, Utterance
from flea_fairseq.data.protocols import check, group_speakers, some, split
from flea_fairseq.errors import CorpusError

SESSIONS = {"A": "fm", "B": "gn", "C": "ho", "D": "ip", "E": "jq"}  # session -> its two speakers
EVERYBODY = "fmgnhoipjq"


def utterance(speaker, emotion, session="", take=1):
    id_ = f"{speaker}_{emotion}_{take}"
    return Utterance(id_, f"{id_}.wav", 16000, speaker, session, emotion)


def corpus_of(utterances):
    return Corpus(Path("/data"), tuple(utterances))


def five_by_two():
    return corpus_of(
        utterance(speaker, emotion, session)
        for session, pair in SESSIONS.items()
        for speaker in pair
        for emotion in ("happy", "sad")
    )


def who(fold):
    """Speakers (letters, sorted) of the splits; each speaker's two utterances must be there."""
    speakers = []
    for members in (fold.train, fold.valid, fold.test, fold.ssl):
        counts = Counter(u.speaker for u in members)
        assert set(counts.values()) == {2}
        speakers.append("".join(sorted(counts)))
    return fold.name, *speakers


ALL = "fghijmnopq"
INNER = [  # name, train, valid, test, ssl
    ("A", "hijopq", "gn", "fm", "hijopq"),
    ("B", "fijmpq", "ho", "gn", "fijmpq"),
    ("C", "fgjmnq", "ip", "ho", "fgjmnq"),
    ("D", "fghmno", "jq", "ip", "fghmno"),
    ("E", "ghinop", "fm", "jq", "ghinop"),
]
PAPER = [
    ("A-m", "ghijnopq", "f", "m", "ghijnopq"),
    ("A-f", "ghijnopq", "m", "f", "ghijnopq"),
    ("B-n", "fhijmopq", "g", "n", "fhijmopq"),
    ("B-g", "fhijmopq", "n", "g", "fhijmopq"),
    ("C-o", "fgijmnpq", "h", "o", "fgijmnpq"),
    ("C-h", "fgijmnpq", "o", "h", "fgijmnpq"),
    ("D-p", "fghjmnoq", "i", "p", "fghjmnoq"),
    ("D-i", "fghjmnoq", "p", "i", "fghjmnoq"),
    ("E-q", "fghimnop", "j", "q", "fghimnop"),
    ("E-j", "fghimnop", "q", "j", "fghimnop"),
]
AUTHORS = [
    ("A", "ghijnopq", "f", "fm", ALL),
    ("B", "fhijmopq", "g", "gn", ALL),
    ("C", "fgijmnpq", "h", "ho", ALL),
    ("D", "fghjmnoq", "i", "ip", ALL),
    ("E", "fghimnop", "j", "jq", ALL),
]
ORACLE = [
    ("A", "ghijnopq", "fm", "fm", ALL),
    ("B", "fhijmopq", "gn", "gn", ALL),
    ("C", "fgijmnpq", "ho", "ho", ALL),
    ("D", "fghjmnoq", "ip", "ip", ALL),
    ("E", "fghimnop", "jq", "jq", ALL),
]


@pytest.mark.parametrize(
    "protocol, expected, score, transductive",
    [
        ("inner", INNER, "pooled", False),
        ("paper", PAPER, "pooled", False),
        ("authors", AUTHORS, "mean_of_speakers", True),
        ("oracle", ORACLE, "pooled", True),
    ],
)
def test_protocol_on_a_hand_made_corpus(protocol, expected, score, transductive):
    folds = split(five_by_two(), protocol)
    assert [who(fold) for fold in folds] == expected
    assert {(f.protocol, f.score, f.transductive) for f in folds} == {(protocol, score, transductive)}


@pytest.mark.parametrize("protocol, expected", [("inner", INNER), ("paper", PAPER)])
def test_transductive_changes_only_what_unsupervised_steps_hear(protocol, expected):
    folds = split(five_by_two(), protocol, transductive=True)
    assert [who(fold) for fold in folds] == [(*row[:4], ALL) for row in expected]
    assert all(fold.transductive for fold in folds)


def test_fold_names_are_safe_file_names():
    corpus = corpus_of(replace(u, session=f"{u.session}/x+1") for u in five_by_two().utterances)
    assert [fold.name for fold in split(corpus)] == ["A-x-1", "B-x-1", "C-x-1", "D-x-1", "E-x-1"]
    clash = corpus_of(
        replace(u, session={"A": "x+", "B": "x/"}.get(u.session, u.session)) for u in five_by_two().utterances
    )
    with pytest.raises(CorpusError, match="special characters"):
        split(clash)


def test_unknown_protocol():
    with pytest.raises(CorpusError, match="'random', expected one of inner, paper, authors, oracle"):
        split(five_by_two(), "random")


@pytest.mark.parametrize("protocol", ["paper", "authors"])
def test_three_speakers_in_a_session_are_named(protocol):
    corpus = corpus_of([*five_by_two().utterances, utterance("z", "sad", "C")])
    with pytest.raises(CorpusError, match=f"{protocol} needs two speakers a session; session 'C' has 3 .h, o, z."):
        split(corpus, protocol)
    assert len(split(corpus, "inner")) == 5


def test_two_sessions_are_too_few_for_inner():
    corpus = corpus_of(u for u in five_by_two().utterances if u.session in "AB")
    with pytest.raises(CorpusError, match="needs 3 sessions to train, select and test on, there are 2 .A, B.; empty"):
        split(corpus)
    assert [fold.name for fold in split(corpus, "oracle")] == ["A", "B"]


def test_a_speaker_in_two_sessions_is_refused_by_name():
    utterances = five_by_two().utterances
    corpus = corpus_of([*utterances, utterance("m", "angry", "D", take=2)])
    with pytest.raises(CorpusError, match="fold A .inner.: speakers in both train and test: m;"):
        split(corpus)


def test_some_sessions_missing():
    corpus = corpus_of([*five_by_two().utterances, utterance("z", "sad")])
    with pytest.raises(CorpusError, match="1 of 21 utterances have no session .z_sad_1.; give all"):
        split(corpus)


def test_an_emotion_that_one_session_alone_shows():
    corpus = corpus_of([*five_by_two().utterances, utterance("h", "fear", "C")])
    with pytest.raises(CorpusError, match="fold B .inner.: emotions that nobody in train shows: fear; drop them"):
        split(corpus)


def leaky(**changes):
    """The inner fold A with some splits replaced."""
    return replace(split(five_by_two())[0], **changes)


def of(*speakers):
    return tuple(u for u in five_by_two().utterances if u.speaker in speakers)


@pytest.mark.parametrize(
    "fold, message",
    [
        (leaky(train=of(*"hijopqf")), "speakers in both train and test: f; a speaker belongs to one"),
        (leaky(train=of(*"hijopqgn")), "speakers in both train and valid: g, n;"),
        (leaky(valid=of(*"gnm")), "speakers in both valid and test: m;"),
        (leaky(ssl=of(*"hijopqfm")), "speakers in both ssl and test: f, m;"),
        (leaky(ssl=of(*"hijopqg")), "speakers in both ssl and valid: g;"),
        (leaky(train=of(*"hijop")), "utterances in no split: q_happy_1, q_sad_1; use the whole corpus"),
        (leaky(valid=of(*"gn") + of("g")), "utterances twice in valid: g_happy_1, g_sad_1; list each once"),
        (leaky(ssl=()), "empty splits: ssl; the corpus needs more sessions"),
        (leaky(protocol="oracle", test=of(*"fmgn"), train=of(*"hijopqm"), transductive=True), "train and test: m;"),
    ],
)
def test_check_names_what_leaks(fold, message):
    check(leaky(), five_by_two())
    with pytest.raises(CorpusError) as caught:
        check(fold, five_by_two())
    assert message in str(caught.value) and str(caught.value).startswith("fold A (")


def lopsided():
    """Ten speakers of unlike size: each with n happy and 12 - n sad utterances, no sessions."""
    return corpus_of(
        utterance(speaker, emotion, take=take)
        for happy, speaker in enumerate(EVERYBODY, start=1)
        for take in range(12)
        for emotion in ["happy" if take < happy else "sad"]
    )


def test_speakers_without_sessions_are_grouped_evenly():
    corpus = lopsided()  # 120 utterances, 55 happy: an equal share is 24, 11 of them happy
    squares = []
    for seed in range(10):
        group_of = group_speakers(corpus, 5, seed)
        assert set(group_of) == set(EVERYBODY) and set(group_of.values()) == {f"group{n}" for n in range(1, 6)}
        counts = Counter((group_of[u.speaker], u.emotion) for u in corpus.utterances)
        for group in set(group_of.values()):
            assert counts[group, "happy"] + counts[group, "sad"] == 24
            squares.append((counts[group, "happy"] - 11) ** 2)
    by_chance = 2 * 8.25 * 8 / 9  # variance of the sum of two numbers drawn from 1 to 10 without return
    assert sum(squares) / len(squares) < by_chance / 2


def test_grouping_by_hand():
    # big (3 happy) goes first; the sad one overlaps with nobody and joins the emptier group; then the overlap decides.
    corpus = corpus_of(
        [utterance("big", "happy", take=n) for n in range(3)]
        + [utterance("sad", "sad", take=n) for n in range(2)]
        + [utterance("low", "sad")]
    )
    group_of = group_speakers(corpus, 2, seed=1)
    assert group_of == {"big": "group1", "sad": "group2", "low": "group1"}
    # 3 and 2 of one class go apart, 1 joins the 2; from the smallest upwards, 3 would join the 1.
    corpus = corpus_of(
        utterance(name, "sad", take=n) for name, count in (("1", 1), ("2", 2), ("3", 3)) for n in range(count)
    )
    assert group_speakers(corpus, 2, seed=1) == {"3": "group1", "2": "group2", "1": "group2"}


def test_as_many_groups_as_speakers_have_one_each_and_names_that_sort():
    groups = group_speakers(lopsided(), 10, seed=1)
    assert sorted(groups.values()) == [f"group{n:02d}" for n in range(1, 11)]


def test_grouping_depends_on_the_seed_alone():
    corpus = corpus_of(replace(u, session="") for u in five_by_two().utterances)
    shuffled = corpus_of(reversed(corpus.utterances))
    assert group_speakers(corpus, 5, seed=1) == group_speakers(shuffled, 5, seed=1)
    assert len({str(group_speakers(corpus, 5, seed)) for seed in range(10)}) > 1


def test_folds_of_grouped_speakers_are_disjoint():
    folds = split(lopsided(), "inner", n_folds=4)
    assert [fold.name for fold in folds] == ["group1", "group2", "group3", "group4"]
    tested = [u.id for fold in folds for u in fold.test]
    assert sorted(tested) == sorted(u.id for u in lopsided().utterances)  # every utterance is tested once
    for fold in folds:
        sides = [{u.speaker for u in members} for members in (fold.train, fold.valid, fold.test)]
        assert len(set.union(*sides)) == sum(map(len, sides)) == 10


@pytest.mark.parametrize("settings, n_folds, seed", [({}, 5, 1), ({"n_folds": 4, "seed": 3}, 4, 3)])
def test_folds_without_sessions_test_the_groups_of_their_seed(settings, n_folds, seed):
    corpus = corpus_of(replace(u, session="") for u in five_by_two().utterances)
    group_of = group_speakers(corpus, n_folds, seed)
    tested = {speaker: fold.name for fold in split(corpus, **settings) for speaker in {u.speaker for u in fold.test}}
    assert tested == group_of


@pytest.mark.parametrize("n_folds", [0, 1, 11])
def test_number_of_folds_must_fit_the_speakers(n_folds):
    with pytest.raises(CorpusError, match=f"{n_folds} folds of 10 speakers"):
        split(lopsided(), n_folds=n_folds)


def test_ten_names_are_listed_and_the_rest_counted():
    names = list("abcdefghijkl")
    assert some(names[:10]) == "a, b, c, d, e, f, g, h, i, j"
    assert some(names) == "a, b, c, d, e, f, g, h, i, j and 2 more"
