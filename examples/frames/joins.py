"""Utterances of one speaker, joined in pairs, so that it is known where an emotion begins or ends.

    python examples/frames/joins.py work/run/corpus.tsv work/run/folds/03-08/test.tsv work/joins/test

Every emotional utterance is joined with a neutral one of its speaker, and with one of another emotion. Silence at
the ends is cut, both parts get the same loudness (ITU-R BS.1770), and they meet in a cross-fade of equal power;
which comes first alternates. So neither loudness nor order tells an emotion; with --voices neither does what else sets
utterances of a speaker apart, such as an accent or a microphone.

  OUTPUT/<name>.wav      16 kHz mono
  OUTPUT/spans.rttm      every part with its emotion, neutral ones as well
  OUTPUT/joins.tsv       name, speaker, first and second utterance, seconds of the joint, kind
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from torchaudio.functional import loudness

from flea_fairseq.data.audio import HOP_SAMPLES, SAMPLE_RATE, write_audio
from flea_fairseq.data.corpus import read_corpus
from flea_fairseq.data.files import hidden_folder, write_text
from flea_fairseq.data.manifest import read_dictionary, read_lines, utterance_id
from flea_fairseq.data.prepare import run
from flea_fairseq.data.spans import Span, read_rttm, rttm_line
from flea_fairseq.errors import CorpusError, FleaError
from flea_fairseq.evaluation.score_frames import NEUTRAL
from flea_fairseq.evaluation.splits import read_split, read_utterance
from flea_fairseq.inference.windows import sounding

HEADER = ("name", "speaker", "first", "second", "joint", "kind")
LOUDNESS = -26.0  # LUFS
HIGHEST = 0.99  # of full scale: a part whose peaks would be cut makes its pair softer
FADE = 0.05  # seconds
SILENCE = 35.0  # dB under the loud parts
WHOLE = 0.9  # of an utterance: known spans that cover less leave some of it neutral
SHORTEST = 0.5  # seconds: the measurement of loudness takes blocks of 0.4


class Part(NamedTuple):
    """One utterance: samples (n,) float32; only parts of one voice are joined."""

    id: str
    emotion: str
    samples: np.ndarray
    voice: str = ""


class Join(NamedTuple):
    """Two utterances as one recording; joint: the sample in the middle of the cross-fade."""

    first: Part
    second: Part
    samples: np.ndarray
    joint: int

    @property
    def kind(self) -> str:
        """`neutral` where one part is, else `two`."""
        return NEUTRAL if NEUTRAL in (self.first.emotion, self.second.emotion) else "two"


def make_joins(
    corpus: Path, split: Path, output: Path, known: Path | None = None, voices: Path | None = None, seed: int = 1
) -> list[Join]:
    """Write the joins of a split to a new folder.

    known: spans of its utterances, those of some are shorter than they; voices: of each utterance (read_voices).
    Raises FleaError for a speaker of whom nothing can be joined.
    """
    if output.exists():
        raise FleaError(f"{output}: is there already; remove it, or name a new folder")
    speakers = {utterance.id: utterance.speaker for utterance in read_corpus(corpus).utterances}
    manifest, labels = read_split(split, read_dictionary(split.parent / "dict.emo.txt"))
    ids = [utterance_id(name) for name in manifest.names]
    parts: dict[str, list[Part]] = {}
    within = read_rttm(known) if known else {}
    within_speaker = read_voices(voices, ids) if voices else {}
    for name, label, path, frames in zip(ids, labels, manifest.paths(), manifest.frames):
        covered = sum(span.end - span.start for span in within[name]) * SAMPLE_RATE if name in within else frames
        if covered < WHOLE * frames:
            continue
        parts.setdefault(speakers[name], []).append(
            Part(name, label, trimmed(read_utterance(path)), within_speaker.get(name, ""))
        )
    made: list[Join] = []
    with hidden_folder(output) as temporary:
        folder = temporary / output.name
        lines, rows = [], ["\t".join(HEADER)]
        for number, (speaker, speakers_parts) in enumerate(sorted(parts.items())):
            for first, second in pairs(speaker, speakers_parts, np.random.default_rng([seed, number])):
                join = joined(first, second)
                name = f"{len(made):04d}_{first.id}_{second.id}"
                write_audio(folder / f"{name}.wav", join.samples)
                joint, end = join.joint / SAMPLE_RATE, len(join.samples) / SAMPLE_RATE
                lines += [
                    rttm_line(name, Span(0, joint, first.emotion)),
                    rttm_line(name, Span(joint, end, second.emotion)),
                ]
                rows.append("\t".join((name, speaker, first.id, second.id, f"{joint:.4f}", join.kind)))
                made.append(join)
        write_text(folder / "spans.rttm", "".join(lines))
        write_text(folder / "joins.tsv", "\n".join(rows) + "\n")
        folder.rename(output)
    return made


def read_voices(path: Path, ids: Sequence[str]) -> dict[str, str]:
    """The voice of each of some utterances, from lines of `utterance<TAB>voice`. Raises CorpusError."""
    voices = {}
    for number, line in enumerate(read_lines(path), 1):
        name, tab, voice = line.partition("\t")
        if not tab:
            raise CorpusError(f"{path}:{number}: {line!r}, expected an utterance, a tab and its voice")
        voices[name] = voice
    if lost := [name for name in ids if name not in voices]:
        raise CorpusError(f"{path}: no line for {len(lost)} utterances, such as {lost[0]}; add one for each")
    return voices


def pairs(speaker: str, parts: list[Part], rng: np.random.Generator) -> Iterator[tuple[Part, Part]]:
    """Each emotional part with a neutral one of its voice, then with one of another emotion; neutral ones as often as
    can be."""
    if not {NEUTRAL} < {part.emotion for part in parts}:
        counts = [sum((part.emotion == NEUTRAL) is neutral for part in parts) for neutral in (True, False)]
        raise CorpusError(f"speaker {speaker}: {counts[0]} neutral and {counts[1]} emotional utterances")
    for voice in sorted({part.voice for part in parts}):
        alike = [part for part in parts if part.voice == voice]
        emotional = [part for part in alike if part.emotion != NEUTRAL]
        turns = rng.permutation(len(emotional)) % 2
        yield from _paired(emotional, [part for part in alike if part.emotion == NEUTRAL], turns, rng)
        for part, turn in zip(emotional, turns):
            different = [other for other in emotional if other.emotion != part.emotion]
            if different:
                other = different[rng.integers(len(different))]
                yield (other, part) if turn else (part, other)


def _paired(
    emotional: list[Part], neutral: list[Part], turns: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[Part, Part]]:
    if not neutral:
        return
    rounds = [rng.permutation(len(neutral)) for _ in range(-(-len(emotional) // len(neutral)))]
    for part, i, turn in zip(emotional, np.concatenate(rounds), turns):
        yield (part, neutral[i]) if turn else (neutral[i], part)


def trimmed(samples: np.ndarray) -> np.ndarray:
    """Without the silence at both ends."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, HOP_SAMPLES)[::HOP_SAMPLES]
    loud = np.flatnonzero(sounding(10 * np.log10(np.square(frames, dtype=np.float64).mean(1) + 1e-12), SILENCE))
    return samples[loud[0] * HOP_SAMPLES : (loud[-1] + 1) * HOP_SAMPLES] if len(loud) else samples


def joined(first: Part, second: Part) -> Join:
    """Two parts at one loudness, the end of the first in the beginning of the second."""
    parts = [levelled(part.samples) for part in (first, second)]
    scale = min(1.0, HIGHEST / max(float(np.abs(part).max()) for part in parts))
    before, after = (scale * part for part in parts)
    fade = min(round(FADE * SAMPLE_RATE), len(before), len(after))
    rise = np.sin(np.linspace(0, np.pi / 2, fade))
    middle = before[len(before) - fade :] * rise[::-1] + after[:fade] * rise
    samples = np.concatenate([before[: len(before) - fade], middle, after[fade:]]).clip(-1, 1)
    return Join(first, second, samples.astype(np.float32), len(before) - fade // 2)


def levelled(samples: np.ndarray) -> np.ndarray:
    """The same at LOUDNESS; too short or silent for a measurement, by its energy."""
    long = len(samples) > SHORTEST * SAMPLE_RATE
    measured = float(loudness(torch.from_numpy(samples)[None], SAMPLE_RATE)) if long else -np.inf
    if not np.isfinite(measured):
        measured = 10 * np.log10(np.square(samples, dtype=np.float64).mean() + 1e-12)
    return samples * 10 ** ((LOUDNESS - measured) / 20)


@click.command(
    epilog="Example: python examples/frames/joins.py work/run/corpus.tsv work/run/folds/03-08/test.tsv joins"
)
@click.argument("corpus", type=click.Path(path_type=Path))
@click.argument("split", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--spans", type=click.Path(path_type=Path), help="RTTM: who is emotional only in part is left out.")
@click.option(
    "--voices", type=click.Path(path_type=Path), help="Lines of utterance<TAB>voice: only one voice is joined."
)
@click.option("--seed", default=1, show_default=True, help="Who is joined with whom.")
def main(corpus: Path, split: Path, output: Path, spans: Path | None, voices: Path | None, seed: int) -> None:
    """Join the utterances of SPLIT, a fold's .tsv, in the new folder OUTPUT; CORPUS, a corpus.tsv, names speakers."""
    print(f"{len(make_joins(corpus, split, output, spans, voices, seed))} recordings -> {output}")


if __name__ == "__main__":
    run(main)
