"""RAVDESS, speech part -> corpus.tsv: four classes, 16 kHz."""

import re
from collections import Counter
from pathlib import Path

import click

from flea_fairseq.data.prepare import Entry, check_totals, prepare, run
from flea_fairseq.errors import CorpusError

CLASSES = {"01": "neutral", "03": "happy", "04": "sad", "05": "angry"}
CALM = "02"  # 06 fearful, 07 disgust and 08 surprised are left out
SPEECH = "01"
AUDIO_ONLY = "03"
# 24 actors say 2 sentences twice, in 2 intensities (neutral: in one).
EXPECTED = {"neutral": 96, "happy": 192, "sad": 192, "angry": 192}
EXPECTED_CALM = 192
NAME = re.compile(r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>0[1-8])-0[12]-0[12]-0[12]-(?P<actor>\d\d)")


@click.command(epilog="Example: python manifests/ravdess.py Audio_Speech_Actors_01-24 --output corpus.tsv")
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The corpus.tsv to write.")
@click.option("--merge-calm", is_flag=True, help="Count calm as neutral (otherwise calm is left out).")
@click.option("--subset", is_flag=True, help="A part of the release: only warn where counts differ from the whole.")
@click.option("--skip-bad", is_flag=True, help="Leave out audio files that cannot be used.")
def main(root: Path, output: Path, merge_calm: bool, subset: bool, skip_bad: bool) -> None:
    """Read RAVDESS below ROOT (the folder of Actor_01 to Actor_24); songs and videos are passed over."""
    classes = {**CLASSES, CALM: "neutral"} if merge_calm else CLASSES
    entries = read_entries(root, classes)
    expected = {**EXPECTED, "neutral": EXPECTED["neutral"] + EXPECTED_CALM * merge_calm}
    check_totals(Counter(entry.emotion for entry in entries), expected, subset)
    prepare(root, entries, output, skip_bad)


def read_entries(root: Path, classes: dict[str, str]) -> list[Entry]:
    """The spoken recordings whose emotion code is among the classes. Raises CorpusError for other names."""
    paths = sorted(path for path in root.glob("Actor_*/*.wav") if not path.name.startswith("._"))
    if not paths:
        raise CorpusError(f"{root}: no Actor_*/*.wav; name the folder that holds Actor_01")
    return [entry for path in paths if (entry := _entry(path, root, classes))]


def _entry(path: Path, root: Path, classes: dict[str, str]) -> Entry | None:
    name = NAME.fullmatch(path.stem)
    if not name or path.parent.name != f"Actor_{name['actor']}":
        raise CorpusError(f"{path}: not a RAVDESS name as Actor_01/03-01-05-01-02-01-01.wav; move it away")
    if (name["modality"], name["channel"]) != (AUDIO_ONLY, SPEECH) or name["emotion"] not in classes:
        return None
    return Entry(path.stem, path.relative_to(root).as_posix(), name["actor"], "", classes[name["emotion"]])


if __name__ == "__main__":
    run(main)
