"""EmoDB (Berlin Database of Emotional Speech) -> corpus.tsv: four classes, or all seven."""

import re
from collections import Counter
from pathlib import Path

import click

from flea_fairseq.data.prepare import Entry, check_totals, prepare, run
from flea_fairseq.errors import CorpusError

EMOTIONS = {
    "W": "angry", "L": "boredom", "E": "disgust", "A": "fear", "F": "happy", "T": "sad", "N": "neutral",
}  # fmt: skip
FOUR = ("angry", "neutral", "happy", "sad")
EXPECTED = {"angry": 127, "boredom": 81, "neutral": 79, "happy": 71, "fear": 69, "sad": 62, "disgust": 46}
PAIRS = ("03+08", "10+09", "11+13", "12+14", "15+16")  # a man and a woman each
SESSION = {speaker: pair for pair in PAIRS for speaker in pair.split("+")}
NAME = re.compile(r"(?P<speaker>\d\d)[ab]\d\d(?P<emotion>[WLEAFTN])[a-z]?")  # speaker, sentence, emotion, take


@click.command(epilog="Example: python manifests/emodb.py emodb --output corpus.tsv")
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The corpus.tsv to write.")
@click.option("--all-emotions", is_flag=True, help="Keep all seven emotions, not only angry, happy, neutral, sad.")
@click.option("--subset", is_flag=True, help="A part of the release: only warn where counts differ from the whole.")
@click.option("--skip-bad", is_flag=True, help="Leave out audio files that cannot be used.")
def main(root: Path, output: Path, all_emotions: bool, subset: bool, skip_bad: bool) -> None:
    """Read EmoDB below ROOT: its recordings lie in ROOT/wav, ROOT/flac or ROOT itself."""
    kept = tuple(EXPECTED) if all_emotions else FOUR
    entries = [entry for entry in read_entries(root) if entry.emotion in kept]
    check_totals(Counter(entry.emotion for entry in entries), {emotion: EXPECTED[emotion] for emotion in kept}, subset)
    prepare(root, entries, output, skip_bad)


def read_entries(root: Path) -> list[Entry]:
    """All recordings, by file name. Raises CorpusError for names that are not EmoDB's."""
    folder = next((root / name for name in ("wav", "flac") if (root / name).is_dir()), root)
    paths = sorted(path for path in folder.glob("*.*") if path.suffix.lower() in (".wav", ".flac"))
    if not paths:
        raise CorpusError(f"{folder}: no .wav or .flac files; name the folder that holds wav or flac")
    return [_entry(path, root) for path in paths if not path.name.startswith("._")]


def _entry(path: Path, root: Path) -> Entry:
    name = NAME.fullmatch(path.stem)
    if not name or name["speaker"] not in SESSION:
        raise CorpusError(f"{path}: not an EmoDB name as 03a01Fa (speaker, sentence, emotion, take); move it away")
    speaker = name["speaker"]
    return Entry(path.stem, path.relative_to(root).as_posix(), speaker, SESSION[speaker], EMOTIONS[name["emotion"]])


if __name__ == "__main__":
    run(main)
