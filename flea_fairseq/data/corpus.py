"""corpus.tsv, the one table that the rest starts from: id, path, frames, speaker, session, emotion."""

from dataclasses import astuple, dataclass, fields
from pathlib import Path

from flea_fairseq.data.files import write_text
from flea_fairseq.data.manifest import (
    A_LENGTH,
    LARGEST,
    check_root,
    label_problem,
    name_problem,
    parse_frames,
    read_lines,
    read_root,
    text_problem,
    utterance_id,
)
from flea_fairseq.errors import FormatError

ROOT_PREFIX = "# root: "


@dataclass(frozen=True)
class Utterance:
    """One recording: `path` is relative to the corpus root, `frames` are 16 kHz samples, `session` may be ""."""

    id: str
    path: str
    frames: int
    speaker: str
    session: str
    emotion: str


@dataclass(frozen=True)
class Corpus:
    """Labelled utterances below one absolute root."""

    root: Path
    utterances: tuple[Utterance, ...]

    def emotions(self) -> list[str]:
        """The emotions that occur, sorted: the classes and their order."""
        return sorted({utterance.emotion for utterance in self.utterances})

    def speakers(self) -> dict[str, str]:
        """Who speaks each utterance, by its id."""
        return {utterance.id: utterance.speaker for utterance in self.utterances}


COLUMNS = tuple(field.name for field in fields(Utterance))


def read_corpus(path: str | Path) -> Corpus:
    """Read a corpus.tsv. Raises FormatError with the line of whatever is wrong."""
    lines = read_lines(path)
    if not lines[0].startswith(ROOT_PREFIX):
        raise FormatError(f"{path}:1: {lines[0][:40]!r}, expected `{ROOT_PREFIX}` and the corpus's absolute root")
    root = read_root(path, lines[0].removeprefix(ROOT_PREFIX))
    if len(lines) < 2 or tuple(lines[1].split("\t")) != COLUMNS:
        raise FormatError(f"{path}:2: expected the header {' '.join(COLUMNS)}, parted by tabs")
    rows = [_parse(f"{path}:{number}", line) for number, line in enumerate(lines[2:], start=3)]
    return _checked(path, Corpus(root, tuple(rows)))


def write_corpus(path: str | Path, corpus: Corpus) -> None:
    """Write a corpus.tsv. Raises FormatError for what could not be read back."""
    check_root(path, corpus.root)
    _checked(path, corpus)
    rows = ["\t".join(map(str, astuple(utterance))) for utterance in corpus.utterances]
    lines = [f"{ROOT_PREFIX}{corpus.root}", "\t".join(COLUMNS), *rows]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _parse(where: str, line: str) -> Utterance:
    columns = line.split("\t")
    if len(columns) != len(COLUMNS):
        raise FormatError(f"{where}: {len(columns)} columns, expected {len(COLUMNS)} ({', '.join(COLUMNS)})")
    id_, path, frames, speaker, session, emotion = columns
    return Utterance(id_, path, parse_frames(where, frames), speaker, session, emotion)


def _checked(path: str | Path, corpus: Corpus) -> Corpus:
    if not corpus.utterances:
        raise FormatError(f"{path}: a corpus without utterances; write it again with a manifest script")
    seen: dict[str, int] = {}
    for number, utterance in enumerate(corpus.utterances, start=3):
        if problem := utterance_problem(utterance):
            raise FormatError(f"{path}:{number}: {problem}")
        if first := seen.get(utterance.id):
            raise FormatError(f"{path}:{number}: id {utterance.id!r} is in line {first} already; name each once")
        seen[utterance.id] = number
    return corpus


def utterance_problem(utterance: Utterance) -> str | None:
    """What keeps an utterance out of a corpus.tsv, or None."""
    if problem := name_problem(utterance.path):
        return f"path {utterance.path!r} {problem}"
    if utterance.id != utterance_id(utterance.path):  # fairseq's manifests carry the path only
        return f"id {utterance.id!r}, expected its file's name without suffix, {utterance_id(utterance.path)!r}"
    if not 0 < utterance.frames <= LARGEST:
        return f"{utterance.frames} {A_LENGTH}"
    if problem := text_problem(utterance.speaker):
        return f"speaker {utterance.speaker!r} {problem}"
    if problem := label_problem(utterance.emotion):
        return f"emotion {utterance.emotion!r} {problem}"
    if utterance.session and (problem := text_problem(utterance.session)):
        return f"session {utterance.session!r} {problem}"
    return None
