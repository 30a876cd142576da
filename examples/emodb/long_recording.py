"""Two hours of EmoDB utterances of speakers that a model never heard, joined with pauses: what does flea predict find?

    python examples/emodb/long_recording.py work/emodb/models/03-08/seed1/tapt/model.pt \
        work/emodb/folds/03-08/test.tsv work/long

Prints `flea predict`'s memory and time, and how much of the recording each of three ways gives the wrong emotion:
our segments; voting of whole windows (each window's emotion, 3 s every 1.5 s, a frame takes the majority) with the same
pauses taken out; and the same voting without knowing of pauses. Each utterance counts once in the intervals.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.stats import bootstrap

from flea_fairseq.data.audio import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, frame_count, read_audio
from flea_fairseq.data.long_audio import LongAudio
from flea_fairseq.data.spans import Span, rttm_line
from flea_fairseq.evaluation.diarisation import diarisation_errors
from flea_fairseq.evaluation.splits import read_split
from flea_fairseq.inference.overview import look_over
from flea_fairseq.inference.recognizer import FRAME_SECONDS, SILENCE_DB
from flea_fairseq.inference.windows import sounding
from flea_fairseq.models.checkpoints import load_classifier
from flea_fairseq.models.device import on_best_device

NONE = "none"  # what a pause has
NOISE = 10 ** (-65 / 20)  # of the pauses, of full scale
WINDOW, HOP = 150, 75  # frames: 3 s every 1.5 s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path, help="test.tsv of the fold, with test.emo beside it")
    parser.add_argument("output", type=Path, help="folder for the recording, its spans and its prediction")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    audio, spans, which = join(given.manifest, given.output, given.hours, given.seed)
    memory, seconds = predict(given.model, audio, given.output)
    said = json.loads((given.output / f"{audio.stem}.json").read_text(encoding="utf-8"))
    frames = len(said["frames"]["attention"])
    print(f"{audio}: {said['seconds'] / 3600:.2f} hours, {len(spans)} spans of {len(set(which))} utterances")
    print(f"flea predict: {memory:.0f} MiB at its peak, {seconds:.0f} s, {said['seconds'] / seconds:.0f} x real time\n")
    votes = vote(given.model, audio, frames)
    sound = sounding(look_over(LongAudio(audio)).levels, SILENCE_DB)
    ways = {
        "segments": labels_of([Span(s["start"], s["end"], s["emotion"]) for s in said["segments"]], frames),
        "whole-window voting, same pauses": np.where(sound, votes, NONE),
        "whole-window voting": votes,
    }
    score(ways, spans, which, said["seconds"])


def join(manifest: Path, output: Path, hours: float, seed: int) -> tuple[Path, list[Span], list[int]]:
    """Utterances drawn at random with pauses of 0.4 to 8 s of faint noise, as one file; spans, and whose they are."""
    rng = np.random.default_rng(seed)
    split, labels = read_split(manifest, sorted(set(manifest.with_suffix(".emo").read_text().split())))
    waveforms = [read_audio(path) for path in split.paths()]
    path, spans, which, at = output / "long.wav", [], [], 0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        while at < hours * 3600 * SAMPLE_RATE:
            pause = int(rng.uniform(0.4, 8) * SAMPLE_RATE)
            file.write(NOISE * rng.standard_normal(pause))
            at, chosen = at + pause, int(rng.integers(len(waveforms)))
            file.write(waveforms[chosen])
            spans.append(Span(at / SAMPLE_RATE, (at + len(waveforms[chosen])) / SAMPLE_RATE, labels[chosen]))
            which.append(chosen)
            at += len(waveforms[chosen])
    (output / "long.rttm").write_text("".join(rttm_line("long", span) for span in spans), encoding="utf-8")
    return path, spans, which


def predict(model: Path, audio: Path, output: Path) -> tuple[float, float]:
    """Run the command; its peak memory in MiB and its seconds."""
    started = time.monotonic()
    command = [sys.executable, "-m", "flea_fairseq", "predict", str(model), str(audio), "--output", str(output)]
    subprocess.run([*command, "--plot", str(output)], check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, time.monotonic() - started


def vote(checkpoint: Path, path: Path, frames: int) -> np.ndarray:
    """The emotion of each frame by the votes of the windows that hold it; the first of equals: (T,) names."""
    model, audio = on_best_device(load_classifier(checkpoint)), LongAudio(path)
    counts = np.zeros((frames, len(model.classes)))
    for start in range(0, frames - WINDOW + 1, HOP):
        waveform = audio.read(start * HOP_SAMPLES, (start + WINDOW - 1) * HOP_SAMPLES + FRAME_SAMPLES)
        counts[start : start + WINDOW, int(model.listen([torch.from_numpy(waveform)])["logits"].argmax())] += 1
    return np.array(model.classes)[counts.argmax(1)]


def labels_of(spans: list[Span], frames: int) -> np.ndarray:
    """The emotion of each frame: (T,) names."""
    labels = np.full(frames, NONE, dtype=object)
    for start, end, emotion in spans:
        labels[round(start / FRAME_SECONDS) : round(end / FRAME_SECONDS)] = emotion
    return labels


def score(ways: dict[str, np.ndarray], spans: list[Span], which: list[int], duration: float) -> None:
    """EDER, share of each utterance that has its emotion (mean, interval over utterances), spans found."""
    columns = ("way", "EDER %", "false alarm, missed, confused (% of the recording)",
               "emotion right in utterances % (95 % interval)", "difference to segments", "spans found %")  # fmt: skip
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    right = {name: utterance_shares(labels, spans, which) for name, labels in ways.items()}
    for name, labels in ways.items():
        said = runs(labels)
        errors = diarisation_errors_of(spans, said, duration)
        parts = ", ".join(f"{100 * part / duration:.1f}" for part in errors[:3])
        own = interval(right[name])
        against = "" if name == "segments" else interval(right[name] - right["segments"], signed=True)
        print(f"| {name} | {100 * errors.rate:.1f} | {parts} | {own} | {against} | {100 * found(spans, said):.1f} |")


def diarisation_errors_of(spans: list[Span], said: list[Span], duration: float):
    """Minute by minute, as the search for overlapping spans is quadratic."""
    totals = np.zeros(4)
    for start in np.arange(0, duration, 60.0):
        end = min(start + 60.0, duration)
        inside = [[s for s in each if s.end > start and s.start < end] for each in (spans, said)]
        moved = [[Span(s.start - start, s.end - start, s.emotion) for s in each] for each in inside]
        totals += diarisation_errors(*moved, end - start, NONE)[:4]
    return diarisation_errors([], [], duration, NONE)._replace(
        **dict(zip(("false_alarm", "missed", "confusion", "overlap"), totals.tolist()))
    )


def utterance_shares(labels: np.ndarray, spans: list[Span], which: list[int]) -> np.ndarray:
    """For each distinct utterance, the mean share of its frames that have its emotion."""
    shares: dict[int, list[float]] = {}
    for span, utterance in zip(spans, which):
        first = round(span.start / FRAME_SECONDS)
        heard = labels[first : first + frame_count(round((span.end - span.start) * SAMPLE_RATE))]
        shares.setdefault(utterance, []).append(float(np.mean(heard == span.emotion)))
    return np.array([np.mean(shares[utterance]) for utterance in sorted(shares)])


def interval(values: np.ndarray, signed: bool = False) -> str:
    """Mean and percentile bootstrap over utterances."""
    low, high = bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    sign = "+" if signed else ""
    return f"{100 * values.mean():{sign}.1f} ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"


def runs(labels: np.ndarray) -> list[Span]:
    """Stretches of one emotion."""
    edges = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), len(labels)]
    return [
        Span(a * FRAME_SECONDS, b * FRAME_SECONDS, labels[a]) for a, b in zip(edges, edges[1:]) if labels[a] != NONE
    ]


def found(spans: list[Span], said: list[Span]) -> float:
    """The share of spans with a stretch of their emotion that overlaps them by half of what both cover (IoU >= 0.5)."""
    hits, starts = 0, np.array([s.start for s in said])
    for span in spans:
        near = said[max(np.searchsorted(starts, span.start - 30), 0) : np.searchsorted(starts, span.end)]
        for other in near:
            both = min(span.end, other.end) - max(span.start, other.start)
            union = max(span.end, other.end) - min(span.start, other.start)
            if other.emotion == span.emotion and both >= union / 2:
                hits += 1
                break
    return hits / len(spans)


if __name__ == "__main__":
    main()
