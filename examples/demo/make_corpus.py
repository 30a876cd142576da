"""Speak a small emotional corpus with espeak-ng, laid out like IEMOCAP, in which every emotional span is known.

Ten voices in five sessions say short sentences; the four emotions differ only in rate, volume, pitch and its range.
In about a quarter of the emotional utterances only a run of a third of the words is emotional, the rest is neutral.

  OUTPUT/SessionN/dialog/EmoEvaluation/<dialog>.txt        labels, lines as in the release
  OUTPUT/SessionN/sentences/wav/<dialog>/<utterance>.wav   16 kHz mono 16-bit
  OUTPUT/spans.rttm                                        where each emotional utterance is emotional
  OUTPUT/voices.tsv                                        each utterance and the synthesiser's voice

A seed gives the same bytes every time, on the same version of espeakng-loader.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from espeak import SAMPLE_RATE, Espeak, Prosody
from tqdm import tqdm

from flea_fairseq.data.audio import write_audio
from flea_fairseq.data.files import hidden_folder, write_text
from flea_fairseq.data.prepare import run
from flea_fairseq.errors import FleaError

SPEAKERS = {  # session -> its F and its M speaker
    1: {"F": "en-us+f1", "M": "en-us+m1"},
    2: {"F": "en-gb-x-rp+f2", "M": "en-gb-scotland+m2"},
    3: {"F": "en-us+f3", "M": "en-us+m3"},
    4: {"F": "en-gb-scotland+f4", "M": "en-gb-x-rp+m4"},
    5: {"F": "en-us+f5", "M": "en-us+m7"},
}
PROSODY = {
    "neutral": Prosody(rate=165, volume=90, pitch=45, range=40),
    "angry": Prosody(rate=200, volume=170, pitch=58, range=85),
    "happy": Prosody(rate=180, volume=105, pitch=80, range=95),
    "sad": Prosody(rate=115, volume=55, pitch=28, range=8),
}
ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbcwmd")
CODES = {"neutral": ("neu",), "angry": ("ang",), "happy": ("hap", "exc"), "sad": ("sad",)}  # the release's labels
EVALUATION = {  # evaluators' word, and valence, activation, dominance
    "neutral": ("Neutral", (3.0, 2.5, 2.5)),
    "angry": ("Anger", (1.5, 4.0, 4.0)),
    "happy": ("Happiness", (4.5, 3.5, 3.0)),
    "sad": ("Sadness", (2.0, 1.5, 1.5)),
}
SHARES = {"neutral": 1708 / 5531, "angry": 1103 / 5531, "happy": 1636 / 5531, "sad": 1084 / 5531}  # of IEMOCAP
PLACES = ("start", "middle", "end")
SENTENCES = (
    "The train to the north leaves at seven tomorrow",
    "She put the letter on the table by the door",
    "We were going to paint the kitchen this weekend",
    "He called again while you were still at work",
    "They closed the little shop across the street",
    "I left my keys in the pocket of the other coat",
    "The doctor wants to see us again on Monday",
    "You said that the car would be ready by noon",
    "My brother is moving back here in the spring",
    "There were forty people waiting at the counter",
    "Nobody told me about the change of plans",
    "The children are asleep in the room upstairs",
    "Our neighbours have bought a very large dog",
    "It has been raining here since Thursday morning",
    "Someone took the last box from the shelf",
    "The committee will read your answer next week",
    "I have read every page of that report twice",
    "The phone rang just as we sat down to eat",
    "He wants to take the boat out before the storm",
    "Her flight from Boston lands in twenty minutes",
    "We can talk about the money after the meeting",
    "The garden looks different without the old tree",
    "They gave the job to a man from another town",
    "You can hear the river from the bedroom window",
)
JITTER = 0.06  # of each prosody value
SILENCE = 0.003  # of full scale: below it, synthesised sound counts as silence
PAUSE = 0.03  # seconds between the parts of an utterance
MARGIN = 0.01  # seconds before and after an utterance; less than half a frame, so every frame's centre is in speech
LEVEL, NOISE = 0.7, 0.0005  # of full scale


@dataclass(frozen=True)
class Turn:
    """One utterance to speak; `place` is where its emotional third lies, or "whole"."""

    session: int
    dialog: str
    id: str
    speaker: str
    emotion: str
    text: str
    place: str
    voice: str


@dataclass(frozen=True)
class Spoken:
    """samples: (n,) float at 16 kHz; span: first and last sample (exclusive) of the emotional part, or None."""

    samples: np.ndarray
    span: tuple[int, int] | None


def make_corpus(output: Path, sentences: int = 6, seed: int = 1, shares: bool = False, accents: bool = False) -> None:
    """Write the corpus to a new folder `output`: `sentences` utterances a voice and emotion.

    shares: as many in all, but the emotions as frequent as in IEMOCAP; accents: every voice speaks in all ACCENTS in
    turn, in place of its own.

    The folder appears when it is whole. Raises FleaError if it is there already, or without a synthesiser.
    """
    output = output.absolute()
    if output.exists():
        raise FleaError(f"{output}: is there already; remove it, or name a new folder")
    if sentences < 1:
        raise FleaError(f"{sentences} sentences a voice and emotion, expected 1 or more")
    espeak = Espeak(seed)
    with hidden_folder(output) as temporary:
        half_made = temporary / output.name
        turns = list(plan(emotion_counts(sentences, shares), seed, accents))
        lengths, spans = {}, []
        for number, turn in enumerate(tqdm(turns, desc="speak", unit="utt", disable=None)):
            spoken = speak(espeak, turn, np.random.default_rng([seed, 1, number]))
            write_wav(half_made, turn, spoken.samples)
            lengths[turn.id] = len(spoken.samples)
            if spoken.span:
                spans.append(rttm_line(turn, spoken.span))
        write_evaluations(half_made, turns, lengths)
        write_text(half_made / "spans.rttm", "".join(spans))
        write_text(half_made / "voices.tsv", "".join(f"{turn.id}\t{turn.voice}\n" for turn in turns))
        os.rename(half_made, output)


def emotion_counts(sentences: int, shares: bool) -> dict[str, int]:
    """Utterances of each emotion that a voice speaks."""
    if not shares:
        return dict.fromkeys(PROSODY, sentences)
    return {emotion: max(1, round(share * len(PROSODY) * sentences)) for emotion, share in SHARES.items()}


def plan(counts: dict[str, int], seed: int, accents: bool = False) -> Iterator[Turn]:
    """Who says what, how: two dialogs a session, in which its speakers take turns."""
    random = np.random.default_rng([seed, 0])
    for session, voices in SPEAKERS.items():
        parts = {speaker: speaker_turns(random, counts, parity) for parity, speaker in enumerate(voices)}
        total = sum(counts.values())
        for number in range(total):
            second = number >= (total + 1) // 2
            dialog = f"Ses{session:02d}{'M' if second else 'F'}_impro01"
            turn = number - second * ((total + 1) // 2)
            for speaker in voices:
                emotion, text, place = parts[speaker][number]
                voice = voices[speaker]
                if accents:
                    voice = f"{ACCENTS[number % len(ACCENTS)]}+{voice.split('+')[1]}"
                yield Turn(session, dialog, f"{dialog}_{speaker}{turn:03d}", speaker, emotion, text, place, voice)


def speaker_turns(random: np.random.Generator, counts: dict[str, int], parity: int) -> list[tuple[str, str, str]]:
    """A speaker's (emotion, text, place) in random order; a quarter of each emotion is partial, at least one."""
    turns = []
    for number, (emotion, count) in enumerate(counts.items()):
        partial = max(1, (count + 2 * ((number + parity) % 2)) // 4) if emotion != "neutral" else 0
        order = random.permutation(len(SENTENCES))
        for i in range(count):
            place = PLACES[random.integers(len(PLACES))] if i < partial else "whole"
            turns.append((emotion, SENTENCES[order[i % len(order)]], place))
    return [turns[i] for i in random.permutation(len(turns))]


def speak(espeak: Espeak, turn: Turn, random: np.random.Generator) -> Spoken:
    """Speak the parts of a turn, each by itself, and join them over pauses, in faint noise."""
    prosody = {name: PROSODY[name].jittered(random, JITTER) for name in dict.fromkeys(("neutral", turn.emotion))}
    samples, span = silence(MARGIN), None
    for emotion, words in split_words(turn.text, turn.emotion, turn.place):
        sound = voiced(espeak.speak(words, turn.voice, prosody[emotion]))
        gap = silence(PAUSE if samples.any() else 0)
        start = len(samples) + len(gap)
        if emotion != "neutral":
            span = (start, start + len(sound))
        samples = np.concatenate([samples, gap, sound])
    samples = LEVEL * np.concatenate([samples, silence(MARGIN)])
    return Spoken(samples + NOISE * random.standard_normal(len(samples)), span)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(SAMPLE_RATE * seconds))


def split_words(text: str, emotion: str, place: str) -> list[tuple[str, str]]:
    """The (emotion, words) parts of a sentence: one, or a neutral rest around an emotional third."""
    words = text.split()
    third = max(2, round(len(words) / 3))
    start = {"whole": 0, "start": 0, "middle": (len(words) - third) // 2, "end": len(words) - third}[place]
    end = len(words) if place == "whole" else start + third
    parts = [("neutral", words[:start]), (emotion, words[start:end]), ("neutral", words[end:])]
    return [(name, " ".join(part)) for name, part in parts if part]


def voiced(samples: np.ndarray) -> np.ndarray:
    """Cut the silence off both ends."""
    loud = np.flatnonzero(np.abs(samples) > SILENCE)
    return samples[loud[0] : loud[-1] + 1]


def write_wav(root: Path, turn: Turn, samples: np.ndarray) -> None:
    path = root / f"Session{turn.session}/sentences/wav/{turn.dialog}/{turn.id}.wav"
    write_audio(path, np.clip(samples, -1, 1))


def rttm_line(turn: Turn, span: tuple[int, int]) -> str:
    start, end = (sample / SAMPLE_RATE for sample in span)
    return f"SPEAKER {turn.id} 1 {start:.7f} {end - start:.7f} <NA> <NA> {turn.emotion} <NA> <NA>\n"


def write_evaluations(root: Path, turns: list[Turn], lengths: dict[str, int]) -> None:
    """Write the label file of each dialog; times run on through the dialog."""
    for dialog in dict.fromkeys(turn.dialog for turn in turns):
        members = [turn for turn in turns if turn.dialog == dialog]
        lines, at = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], 0.0
        for number, turn in enumerate(members):
            end = at + lengths[turn.id] / SAMPLE_RATE
            lines += [*evaluation(turn, number, at, end), ""]
            at = end
        path = root / f"Session{members[0].session}/dialog/EmoEvaluation/{dialog}.txt"
        write_text(path, "\n".join(lines) + "\n")


def evaluation(turn: Turn, number: int, start: float, end: float) -> list[str]:
    """A turn's header line, and one line of a categorical and a dimensional evaluator each."""
    codes = CODES[turn.emotion]
    word, (valence, activation, dominance) = EVALUATION[turn.emotion]
    return [
        f"[{start:.4f} - {end:.4f}]\t{turn.id}\t{codes[number % len(codes)]}"
        f"\t[{valence:.4f}, {activation:.4f}, {dominance:.4f}]",
        f"C-E1:\t{word};\t()",
        f"A-E1:\tval {valence:.0f}; act {activation:.0f}; dom  {dominance:.0f};\t()",
    ]


@click.command(epilog="Example: python examples/demo/make_corpus.py work/demo/corpus")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--sentences", default=6, show_default=True, help="Utterances a voice and emotion (40 pairs).")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option("--shares", is_flag=True, help="Emotions as frequent as in IEMOCAP, in place of equally.")
@click.option("--accents", is_flag=True, help="Every voice speaks in four accents in turn, in place of its own.")
def main(output: Path, sentences: int, seed: int, shares: bool, accents: bool) -> None:
    """Speak a small emotional corpus into the new folder OUTPUT, laid out like IEMOCAP, with spans.rttm."""
    make_corpus(output, sentences, seed, shares, accents)


if __name__ == "__main__":
    run(main)
