"""Evaluation protocols: who trains, who selects, who is tested, and what unsupervised steps may hear.

Pure: nothing is written here. `check` refuses a fold in which a speaker or a recording leaks.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from flea_fairseq.data.corpus import Corpus, Utterance
from flea_fairseq.errors import CorpusError

SPLITS = ("train", "valid", "test", "ssl")
SHARED_VALID = ("authors", "oracle")  # protocols that select on utterances they test on, and say so
Utterances = tuple[Utterance, ...]


@dataclass(frozen=True)
class Fold:
    """One train / valid / test split; `ssl` is what pretraining and clustering may hear.

    `score`: "pooled" over the test split, or "mean_of_speakers" of it. `transductive`: `ssl` holds the test audio.
    """

    name: str
    protocol: str
    score: str
    transductive: bool
    train: Utterances
    valid: Utterances
    test: Utterances
    ssl: Utterances


def split(
    corpus: Corpus,
    protocol: str = "inner",
    n_folds: int = 5,
    seed: int = 1,
    transductive: bool = False,
    identical: Sequence[Utterances] = (),
) -> list[Fold]:
    """The checked folds of a corpus; the table of protocols is in the documentation. Raises CorpusError.

    identical: groups of utterances with the same audio, which no fold may have on two sides.
    """
    if protocol not in PROTOCOLS:
        raise CorpusError(f"protocol {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    made = PROTOCOLS[protocol](_by_session(corpus, n_folds, seed))
    if transductive or protocol in SHARED_VALID:
        made = [replace(fold, transductive=True, ssl=corpus.utterances) for fold in made]
    if len({fold.name for fold in made}) < len(made):
        raise CorpusError(
            f"session or speaker names differ in special characters only ({[f.name for f in made]}); rename them"
        )
    for fold in made:
        check(fold, corpus, identical)
    return made


def check(fold: Fold, corpus: Corpus, identical: Sequence[Utterances] = ()) -> None:
    """Raise CorpusError, naming who or what, if a fold leaks, leaves something out, or cannot be trained on."""
    speakers = {name: {utterance.speaker for utterance in getattr(fold, name)} for name in SPLITS}
    apart = [("train", "valid"), ("train", "test")]
    if fold.protocol not in SHARED_VALID:
        apart.append(("valid", "test"))
    if not fold.transductive:
        apart += [("ssl", "valid"), ("ssl", "test")]
    for one, other in apart:
        _refuse(
            fold,
            speakers[one] & speakers[other],
            f"speakers in both {one} and {other}",
            "a speaker belongs to one session and one side only",
        )
        sides = set(getattr(fold, one)), set(getattr(fold, other))
        _refuse(
            fold,
            {" = ".join(u.id for u in group) for group in identical if all(side & set(group) for side in sides)},
            f"the same audio in both {one} and {other}",
            "leave all but one of each out of the corpus",
        )
    used = set(fold.train + fold.valid + fold.test)
    _refuse(fold, {u.id for u in set(corpus.utterances) - used}, "utterances in no split", "use the whole corpus")
    for name in SPLITS:
        ids = Counter(utterance.id for utterance in getattr(fold, name))
        _refuse(fold, {id_ for id_, times in ids.items() if times > 1}, f"utterances twice in {name}", "list each once")
        _refuse(fold, set() if ids else {name}, "empty splits", "the corpus needs more sessions or speakers")
    missing = set(corpus.emotions()) - {utterance.emotion for utterance in fold.train}
    _refuse(fold, missing, "emotions that nobody in train shows", "drop them from the corpus, or use fewer folds")


def _inner(sessions: dict[str, Utterances]) -> list[Fold]:
    """A fold a session; the next session (cyclic) selects, the others train."""
    names = list(sessions)
    if len(names) < 3:
        raise CorpusError(
            f"protocol inner needs 3 sessions to train, select and test on, there are {len(names)} "
            f"({', '.join(names)}); empty the session column to group speakers, into 3 folds or more"
        )
    following = dict(zip(names, names[1:] + names[:1]))
    return [
        _fold(test, "inner", _others(sessions, test, following[test]), sessions[following[test]], sessions[test])
        for test in names
    ]


def _paper(sessions: dict[str, Utterances]) -> list[Fold]:
    """Two folds a session: one of its speakers selects, the other is tested, and the other way round."""
    return [
        _fold(f"{session}-{test}", "paper", _others(sessions, session), pair[valid], pair[test])
        for session, pair in _pairs(sessions, "paper").items()
        for valid, test in (tuple(pair), tuple(pair)[::-1])
    ]


def _authors(sessions: dict[str, Utterances]) -> list[Fold]:
    """A fold a session: its first speaker selects; the score is the mean over both speakers."""
    return [
        replace(
            _fold(session, "authors", _others(sessions, session), next(iter(pair.values())), sessions[session]),
            score="mean_of_speakers",
        )
        for session, pair in _pairs(sessions, "authors").items()
    ]


def _oracle(sessions: dict[str, Utterances]) -> list[Fold]:
    """A fold a session, which is tested and selects at once: what selecting on the test set gives."""
    return [_fold(test, "oracle", _others(sessions, test), sessions[test], sessions[test]) for test in sessions]


PROTOCOLS: dict[str, Callable[[dict[str, Utterances]], list[Fold]]] = {
    "inner": _inner,
    "paper": _paper,
    "authors": _authors,
    "oracle": _oracle,
}


def _fold(name: str, protocol: str, train: Utterances, valid: Utterances, test: Utterances) -> Fold:
    name = re.sub(r"[^A-Za-z0-9_-]", "-", name)  # YAML reads 11_13 as a number
    return Fold(name, protocol, "pooled", False, train, valid, test, ssl=train)


def _others(sessions: dict[str, Utterances], *held_out: str) -> Utterances:
    return tuple(u for session, members in sessions.items() if session not in held_out for u in members)


def _pairs(sessions: dict[str, Utterances], protocol: str) -> dict[str, dict[str, Utterances]]:
    """For each session its two speakers (sorted) and their utterances."""
    pairs = {session: _grouped(members, lambda utterance: utterance.speaker) for session, members in sessions.items()}
    for session, pair in pairs.items():
        if len(pair) != 2:
            raise CorpusError(
                f"protocol {protocol} needs two speakers a session; session {session!r} has {len(pair)} "
                f"({', '.join(pair)}); use protocol inner"
            )
    return pairs


def _by_session(corpus: Corpus, n_folds: int, seed: int) -> dict[str, Utterances]:
    without = [utterance.id for utterance in corpus.utterances if not utterance.session]
    if not without:
        return _grouped(corpus.utterances, lambda utterance: utterance.session)
    if len(without) < len(corpus.utterances):
        raise CorpusError(
            f"{len(without)} of {len(corpus.utterances)} utterances have no session ({some(without)}); "
            "give all of them one, or none"
        )
    group_of = group_speakers(corpus, n_folds, seed)
    return _grouped(corpus.utterances, lambda utterance: group_of[utterance.speaker])


def group_speakers(corpus: Corpus, n_groups: int, seed: int) -> dict[str, str]:
    """Speaker -> group name, the groups of near-equal size and class counts.

    Greedy: speakers with most utterances first (ties in seeded random order), each into the group where it brings
    the class counts closest to equal shares of the corpus. The sum of squared distances to the shares changes by
    twice the overlap of the speaker's counts with the group's, plus what is the same for every group: so the
    smallest overlap wins, then the smaller group. Raises CorpusError for too few speakers.
    """
    counts: dict[str, Counter[str]] = {}
    for utterance in corpus.utterances:
        counts.setdefault(utterance.speaker, Counter())[utterance.emotion] += 1
    if not 2 <= n_groups <= len(counts):
        raise CorpusError(
            f"{n_groups} folds of {len(counts)} speakers, expected 2 folds or more and no more than there are speakers"
        )
    speakers = sorted(counts)
    random.Random(seed).shuffle(speakers)
    groups: list[Counter[str]] = [Counter() for _ in range(n_groups)]
    group_of = {}
    for speaker in sorted(speakers, key=lambda name: -counts[name].total()):
        overlaps = [sum(counts[speaker][emotion] * group[emotion] for emotion in group) for group in groups]
        best = min(range(n_groups), key=lambda g: (overlaps[g], groups[g].total()))
        groups[best] += counts[speaker]
        group_of[speaker] = f"group{best + 1:0{len(str(n_groups))}d}"
    return group_of


def _grouped(utterances: Iterable[Utterance], key: Callable[[Utterance], str]) -> dict[str, Utterances]:
    groups: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        groups.setdefault(key(utterance), []).append(utterance)
    return {name: tuple(groups[name]) for name in sorted(groups)}


def _refuse(fold: Fold, offenders: set[str], what: str, remedy: str) -> None:
    if offenders:
        raise CorpusError(f"fold {fold.name} ({fold.protocol}): {what}: {some(sorted(offenders))}; {remedy}")


def some(names: list[str], limit: int = 10) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
