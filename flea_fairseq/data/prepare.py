"""What the manifest scripts share: labelled files -> checked (and, where needed, converted) audio -> corpus.tsv."""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from flea_fairseq.data.audio import FRAME_SAMPLES, SAMPLE_RATE, decode, frame_count, read_audio, write_audio
from flea_fairseq.data.corpus import Corpus, Utterance, utterance_problem, write_corpus
from flea_fairseq.data.manifest import name_problem, utterance_id
from flea_fairseq.errors import AudioError, CorpusError, FleaError


class Entry(NamedTuple):
    """One labelled file: `path` is relative to the corpus root, `session` may be ""."""

    id: str
    path: str
    speaker: str
    session: str
    emotion: str


@dataclass(frozen=True)
class Inspection:
    """What decoding one file showed: its 16 kHz samples, why it must be converted, why it cannot be used."""

    entry: Entry
    frames: int = 0
    conversion: str = ""
    problem: str = ""


def prepare(root: str | Path, entries: Iterable[Entry], output: str | Path, skip_bad: bool = False) -> Corpus:
    """Check every file, convert the corpus if it is not 16 kHz mono, and write `output` (a corpus.tsv).

    One manifest has one root: if a single file needs converting, all are written as 16 kHz mono 16-bit FLAC to
    `audio/` beside `output`, else the files stay where they are. All problems are listed at once.
    Raises CorpusError; for unusable files only if `skip_bad` does not leave them out.
    """
    root, output = Path(root).resolve(), Path(output).resolve()
    entries = [Entry(*entry) for entry in entries]
    _check_entries(root, entries)
    found = [_inspect(root, entry) for entry in tqdm(entries, desc="check", unit="file", disable=None)]
    _print_conversions(found)
    _print_unusable(found)
    usable = [item for item in found if not item.problem]
    _refuse_unusable([item for item in found if item.problem], usable, skip_bad)
    if any(item.conversion for item in usable):
        corpus = _converted(root, usable, output.parent / "audio")
    else:
        corpus = Corpus(root, tuple(_utterance(item.entry, item.entry.path, item.frames) for item in usable))
    write_corpus(output, corpus)
    print(f"{summary(corpus)} -> {output}")
    return corpus


def summary(corpus: Corpus) -> str:
    """One line: utterances, speakers, sessions, hours, utterances an emotion."""
    utterances = corpus.utterances
    hours = sum(utterance.frames for utterance in utterances) / SAMPLE_RATE / 3600
    emotions = Counter(utterance.emotion for utterance in utterances)
    sessions = {utterance.session for utterance in utterances} - {""}
    return (
        f"{len(utterances)} utterances, {len({utterance.speaker for utterance in utterances})} speakers, "
        f"{len(sessions)} sessions, {hours:.2f} h; "
        + ", ".join(f"{emotion} {emotions[emotion]}" for emotion in sorted(emotions))
    )


def check_totals(found: Mapping[str, int], expected: Mapping[str, int], subset: bool) -> None:
    """Compare counts with those of the full release; a difference is a CorpusError, a warning for a `subset`."""
    wrong = [
        f"{name} {found.get(name, 0)} (full release: {expected.get(name, 0)})"
        for name in [*expected, *sorted(set(found) - set(expected))]
        if found.get(name, 0) != expected.get(name, 0)
    ]
    if wrong and not subset:
        raise CorpusError(
            f"counts differ from the full release: {'; '.join(wrong)}; copy the whole corpus, or say "
            "--subset if a part is meant"
        )
    if wrong:
        print(f"warning: counts differ from the full release: {'; '.join(wrong)}", file=sys.stderr)


def run(command: Callable[[], object]) -> None:
    """Run a script's command; what a user can mend ends in one line on standard error and exit code 1."""
    try:
        command()
    except FleaError as error:
        sys.exit(f"error: {error}")


def _inspect(root: Path, entry: Entry) -> Inspection:
    """Decode one file to its end."""
    try:
        samples, sample_rate = decode(root / entry.path)
    except AudioError as error:
        return Inspection(entry, problem=str(error).removeprefix(f"{root / entry.path}: "))
    frames = -(-len(samples) * SAMPLE_RATE // sample_rate)  # rounded up, as resampling does
    if frame_count(frames) == 0:
        return Inspection(entry, problem=f"too short ({frames} samples at 16 kHz, a frame needs {FRAME_SAMPLES})")
    channels = samples.shape[1]
    if sample_rate != SAMPLE_RATE or channels != 1:
        return Inspection(entry, frames, f"{sample_rate} Hz, {channels} channel{'s' * (channels > 1)}")
    renamed = "" if entry.id == utterance_id(entry.path) else "the id is not the file's name"
    return Inspection(entry, frames, renamed)


def _print_conversions(found: Sequence[Inspection]) -> None:
    """The reasons for converting, each with its first file."""
    for reason, items in _grouped(found, lambda item: item.conversion).items():
        more = f" and {len(items) - 1} more" if len(items) > 1 else ""
        print(f"{items[0].entry.path}{more}  {reason}: converted")


def _print_unusable(found: Sequence[Inspection]) -> None:
    """The unusable files by reason, and how many each reason has: those lines last, where a long list leaves them."""
    groups = _grouped(found, lambda item: re.split(r" \(|; ", item.problem)[0])  # a problem: reason (details); remedy
    width = max((len(item.entry.path) for item in found if item.problem), default=0)
    for items in groups.values():
        for item in items:
            print(f"{item.entry.path:{width}}  {item.problem}")
    for reason, items in groups.items():
        print(f"{len(items):6} of {len(found)} files: {reason}")


def _grouped(found: Iterable[Inspection], key: Callable[[Inspection], str]) -> dict[str, list[Inspection]]:
    """By key, the largest group first; those without are left out."""
    groups: dict[str, list[Inspection]] = {}
    for item in found:
        if name := key(item):
            groups.setdefault(name, []).append(item)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def _check_entries(root: Path, entries: Sequence[Entry]) -> None:
    """Refuse what corpus.tsv could not hold before any file is decoded or written."""
    if not entries:
        raise CorpusError(f"{root}: no labelled audio found; check the folder against the corpus's layout")
    first: dict[str, str] = {}
    for entry in entries:
        if problem := name_problem(entry.path):
            raise CorpusError(f"{root}: path {entry.path!r} {problem}")
        if problem := utterance_problem(_utterance(entry, f"{entry.id}.flac", frames=1)):
            raise CorpusError(f"{root}: {entry.path}: {problem}")
        if entry.id in first:
            raise CorpusError(f"{root}: id {entry.id!r} is both {first[entry.id]} and {entry.path}; remove one of them")
        first[entry.id] = entry.path


def _refuse_unusable(bad: Sequence[Inspection], usable: Sequence[Inspection], skip_bad: bool) -> None:
    if bad and not (skip_bad and usable):
        raise CorpusError(
            f"{len(bad)} of {len(bad) + len(usable)} audio files cannot be used (listed above, the first "
            f"is {bad[0].entry.path}); mend them, or leave them out with --skip-bad"
        )


def _converted(root: Path, usable: Sequence[Inspection], folder: Path) -> Corpus:
    """Write each file as `<folder>/<id>.flac`: 16 kHz, mono, 16 bit; bit-exact for what is so already."""
    if any((root / item.entry.path).resolve().is_relative_to(folder) for item in usable):
        raise CorpusError(f"{folder}: converted audio would be written among the originals; name another --output")
    utterances = []
    for item in tqdm(usable, desc="convert", unit="file", disable=None):
        samples = read_audio(root / item.entry.path)
        name = f"{item.entry.id}.flac"
        write_audio(folder / name, _to_16_bit(samples))
        utterances.append(_utterance(item.entry, name, len(samples)))
    return Corpus(folder, tuple(utterances))


def _to_16_bit(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def _utterance(entry: Entry, path: str, frames: int) -> Utterance:
    return Utterance(entry.id, path, frames, entry.speaker, entry.session, entry.emotion)
