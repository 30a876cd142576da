"""IEMOCAP's release folder -> corpus.tsv: four classes, happy with excited, 5531 utterances."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from flea_fairseq.data.prepare import Entry, check_totals, prepare, run
from flea_fairseq.errors import CorpusError, FormatError

CLASSES = {"neu": "neutral", "ang": "angry", "sad": "sad", "hap": "happy", "exc": "happy"}
LEFT_OUT = {"fru", "sur", "fea", "dis", "oth", "xxx"}  # xxx: the evaluators did not agree
EXPECTED = {
    "neu": 1708, "ang": 1103, "sad": 1084, "exc": 1041, "hap": 595,
    "Ses01": 1085, "Ses02": 1023, "Ses03": 1151, "Ses04": 1031, "Ses05": 1241,
}  # fmt: skip
# An id of bounded length, or one that almost fits could take for ever.
TURN = re.compile(r"\[\d+\.\d+ - \d+\.\d+\]\t(?P<id>\S{1,100})\t(?P<code>\S+)\t\[.+\]\s*", re.ASCII)
ID = re.compile(r"(?P<dialog>(?P<session>Ses\d\d)[FM]_\w+)_(?P<speaker>[FM])\w+", re.ASCII)


class Turn(NamedTuple):
    """One utterance of the evaluation files, with the release's own emotion code."""

    entry: Entry
    code: str


@click.command(epilog="Example: python manifests/iemocap.py IEMOCAP_full_release --output corpus.tsv")
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The corpus.tsv to write.")
@click.option("--subset", is_flag=True, help="A part of the release: only warn where counts differ from the whole.")
@click.option("--skip-bad", is_flag=True, help="Leave out audio files that cannot be used.")
def main(root: Path, output: Path, subset: bool, skip_bad: bool) -> None:
    """Read IEMOCAP's full release below ROOT (the folder of Session1 to Session5)."""
    turns = read_turns(root)
    check_totals(totals(turns), EXPECTED, subset)
    prepare(root, [turn.entry for turn in turns], output, skip_bad)


def read_turns(root: Path) -> list[Turn]:
    """The turns of the four classes, in the order of sessions, dialogs and time. Raises CorpusError, FormatError."""
    files = sorted(path for path in root.glob("Session*/dialog/EmoEvaluation/*.txt") if not path.name.startswith("._"))
    if not files:
        raise CorpusError(f"{root}: no Session*/dialog/EmoEvaluation/*.txt; name the folder that holds Session1")
    return [turn for path in files for turn in _turns(path, root) if turn.code in CLASSES]


def totals(turns: list[Turn]) -> Counter[str]:
    """Utterances for each emotion code and for each session."""
    return Counter(turn.code for turn in turns) + Counter(turn.entry.session for turn in turns)


def _turns(path: Path, root: Path) -> Iterator[Turn]:
    """The turns of one dialog: its lines that begin with a time; evaluators' lines lie between."""
    wavs = path.parents[2] / "sentences" / "wav"
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        if not line.startswith("["):
            continue
        turn = TURN.fullmatch(line)
        if not turn:
            raise FormatError(
                f"{path}:{number}: {line[:80]!r}, expected, with tabs between, `[start - end] turn emotion [v, a, d]`"
            )
        name = ID.fullmatch(turn["id"])
        if not name or name["dialog"] != path.stem:
            raise FormatError(f"{path}:{number}: turn {turn['id']!r}, expected {path.stem}_ and F or M with a number")
        if turn["code"] not in CLASSES.keys() | LEFT_OUT:
            raise FormatError(
                f"{path}:{number}: emotion {turn['code']!r}, expected one of {', '.join([*CLASSES, *sorted(LEFT_OUT)])}"
            )
        wav = wavs / path.stem / f"{turn['id']}.wav"
        # The letter in Ses01F says who wears the motion-capture markers; the one before the turn's number, who speaks.
        speaker = name["session"] + name["speaker"]
        emotion = CLASSES.get(turn["code"], "")
        entry = Entry(turn["id"], wav.relative_to(root).as_posix(), speaker, name["session"], emotion)
        yield Turn(entry, turn["code"])


if __name__ == "__main__":
    run(main)
