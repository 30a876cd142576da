"""Utterances of one speaker, joined in pairs, so that it is known where an emotion begins or ends.

    python examples/frames/joins.py work/run/corpus.tsv work/run/folds/03-08/test.tsv work/joins/test

Every emotional utterance is joined with a neutral one of its speaker, and with one of another emotion. Silence at
the ends is cut, both parts get the same loudness (ITU-R BS.1770), and they meet in a cross-fade of equal power;
which comes first alternates. So neither loudness nor order tells an emotion.

  OUTPUT/<name>.wav      16 kHz mono
  OUTPUT/spans.rttm      every part with its emotion, neutral ones as well
  OUTPUT/joins.tsv       name, speaker, first and second utterance, seconds of the joint, kind
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from torchaudio.functional import loudness

from flea_fairseq.data.audio import HOP_SAMPLES, SAMPLE_RATE, write_audio
from flea_fairseq.data.corpus import read_corpus
from flea_fairseq.data.files import hidden_folder, write_text
from flea_fairseq.data.manifest import read_dictionary, utterance_id
from flea_fairseq.data.prepare import run
from flea_fairseq.data.spans import Span, read_rttm, rttm_line
from flea_fairseq.errors import CorpusError, FleaError
from flea_fairseq.evaluation.splits import read_split, read_utterance
from flea_fairseq.inference.windows import sounding

NEUTRAL = "neutral"
HEADER = ("name", "speaker", "first", "second", "joint", "kind")
LOUDNESS = -26.0  # LUFS
HIGHEST = 0.99  # of full scale: a part whose peaks would be cut makes its pair softer
FADE = 0.05  # seconds
SILENCE = 35.0  # dB under the loud parts
WHOLE = 0.9  # of an utterance: known spans that cover less leave some of it neutral
SHORTEST = 0.5  # seconds: the measurement of loudness takes blocks of 0.4


class Part(NamedTuple):
    """One utterance: samples (n,) float32."""

    id: str
    emotion: str
    samples: np.ndarray


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


def make_joins(corpus: Path, split: Path, output: Path, known: Path | None = None, seed: int = 1) -> list[Join]:
    """Write the joins of a split to a new folder; known: spans of its utterances, those of some are shorter than they.

    Raises FleaError for a speaker who is never neutral.
    """
    if output.exists():
        raise FleaError(f"{output}: is there already; remove it, or name a new folder")
    speakers = {utterance.id: utterance.speaker for utterance in read_corpus(corpus).utterances}
    manifest, labels = read_split(split, read_dictionary(split.parent / "dict.emo.txt"))
    ids = [utterance_id(name) for name in manifest.names]
    parts: dict[str, list[Part]] = {}
    within = read_rttm(known) if known else {}
    for name, label, path, frames in zip(ids, labels, manifest.paths(), manifest.frames):
        covered = sum(span.end - span.start for span in within[name]) * SAMPLE_RATE if name in within else frames
        if covered < WHOLE * frames:
            continue
        parts.setdefault(speakers[name], []).append(Part(name, label, trimmed(read_utterance(path))))
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


def pairs(speaker: str, parts: list[Part], rng: np.random.Generator) -> Iterator[tuple[Part, Part]]:
    """Each emotional part with a neutral one, then with one of another emotion; neutral ones as often as can be."""
    neutral = [part for part in parts if part.emotion == NEUTRAL]
    emotional = [part for part in parts if part.emotion != NEUTRAL]
    if not neutral or not emotional:
        raise CorpusError(f"speaker {speaker}: {len(neutral)} neutral and {len(emotional)} emotional utterances")
    rounds = [rng.permutation(len(neutral)) for _ in range(-(-len(emotional) // len(neutral)))]
    others = [neutral[i] for i in np.concatenate(rounds)]
    turns = rng.permutation(len(emotional)) % 2
    for part, other, turn in zip(emotional, others, turns):
        yield (part, other) if turn else (other, part)
    for part, turn in zip(emotional, turns):
        different = [other for other in emotional if other.emotion != part.emotion]
        if different:
            other = different[rng.integers(len(different))]
            yield (other, part) if turn else (part, other)


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
@click.option("--seed", default=1, show_default=True, help="Who is joined with whom.")
def main(corpus: Path, split: Path, output: Path, spans: Path | None, seed: int) -> None:
    """Join the utterances of SPLIT, a fold's .tsv, in the new folder OUTPUT; CORPUS, a corpus.tsv, names speakers."""
    print(f"{len(make_joins(corpus, split, output, spans, seed))} recordings -> {output}")


if __name__ == "__main__":
    run(main)
