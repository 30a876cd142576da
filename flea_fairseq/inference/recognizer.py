"""`EmotionRecognizer`: a trained classifier that says which emotion a recording has, and when."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from flea_fairseq.clustering.embedding import GPU_BATCH_SECONDS
from flea_fairseq.data.audio import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE, frame_count, resample
from flea_fairseq.data.long_audio import LongAudio
from flea_fairseq.errors import AudioError
from flea_fairseq.inference.frame_units import FrameUnits, load_units
from flea_fairseq.inference.overview import Audio, Overview, look_over
from flea_fairseq.inference.segments import CHANGE, Segment, find_segments
from flea_fairseq.inference.windows import Window, plan_windows, sounding, triangle
from flea_fairseq.models.checkpoints import load_classifier
from flea_fairseq.models.device import on_best_device
from flea_fairseq.models.flea_classifier import FleaClassifier, context_frames

FRAME_SECONDS = HOP_SAMPLES / SAMPLE_RATE
WINDOW_SECONDS = 30.0
SILENCE_DB = 40.0


@dataclass(frozen=True)
class Prediction:
    """What a model says of a recording; frame i is heard around second 0.02 i + 0.0125.

    probabilities: (C,) calibrated, of the whole; attention: (T,) the weight of each frame, which sum to 1; posteriors:
    (T, C) the head's probabilities of each frame by itself, nan where a long recording is silent and was not heard;
    sound: (T,) which frames are not silent; clusters: (T,) of a k-means model, -1 where not heard; weighted: whether
    frames have logits of their own, without which posteriors are those of the window; segments: of one emotion each.
    """

    id: str
    seconds: float
    classes: tuple[str, ...]
    probabilities: np.ndarray
    attention: np.ndarray
    posteriors: np.ndarray
    sound: np.ndarray
    clusters: np.ndarray | None
    weighted: bool
    segments: tuple[Segment, ...]
    overview: Overview

    @property
    def emotion(self) -> str:
        """The most probable class of the whole recording."""
        return self.classes[int(self.probabilities.argmax())]


class EmotionRecognizer:
    """Which emotion a recording has, and at which frames a classifier hears it.

    A recording longer than `window` seconds is heard in stretches between its pauses, in memory that grows by 100 MB
    an hour; `silence`: so many dB under the loud parts is a pause; `change`: the price of a change of emotion
    within speech, in nats, which short segments must be worth.

    >>> recognizer = EmotionRecognizer.from_pretrained("work/demo/models/Ses01/seed1/tapt/model.pt")
    >>> recognizer(waveform, 16000).emotion
    """

    def __init__(
        self,
        model: FleaClassifier,
        units: FrameUnits | None = None,
        window: float = WINDOW_SECONDS,
        silence: float = SILENCE_DB,
        change: float = CHANGE,
    ) -> None:
        self.model = on_best_device(model)
        self.units = units
        self.longest = max(1, frame_count(int(window * SAMPLE_RATE)))
        self.silence = silence
        self.change = change

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        kmeans: str | Path | None = None,
        kmeans_checkpoint: str | Path | None = None,
        layer: int | None = None,
        window: float = WINDOW_SECONDS,
        silence: float = SILENCE_DB,
        change: float = CHANGE,
        context: float | None = None,
    ) -> "EmotionRecognizer":
        """Load a model file that `flea train` wrote; kmeans: name each frame's cluster, of the model (and layer) that
        `kmeans_checkpoint` is, this one if None; context: seconds around a frame that the transformer may know of (0:
        all), in place of those of its training. Raises CheckpointError, ExperimentError for what is no such time."""
        model = load_classifier(path)
        if context is not None:
            model.context = context_frames(context)
        units = load_units(Path(kmeans), Path(kmeans_checkpoint or path), layer) if kmeans else None
        return cls(model, units, window, silence, change)

    @property
    def classes(self) -> tuple[str, ...]:
        """The emotions, in the order of probabilities."""
        return self.model.classes

    def __call__(self, waveform: np.ndarray | torch.Tensor, sample_rate: int, name: str = "") -> Prediction:
        """Predict a waveform: (samples,) or (samples, channels) of floats in -1 .. 1, any rate. Raises AudioError."""
        samples = np.asarray(waveform, dtype=np.float32)
        if samples.ndim not in (1, 2) or not samples.size or not np.isfinite(samples).all():
            expected = "(samples,) or (samples, channels) of finite numbers"
            raise AudioError(f"{name or 'waveform'}: shape {samples.shape}, expected {expected}")
        mono = samples if samples.ndim == 1 else samples.mean(axis=1)
        return self._predict(_Waveform(mono if sample_rate == SAMPLE_RATE else resample(mono, sample_rate)), name)

    def predict_file(self, path: str | Path, name: str = "") -> Prediction:
        """Predict a file of any length, rate and channels. Raises AudioError."""
        return self._predict(LongAudio(path), name or Path(path).stem)

    def _predict(self, audio: Audio, name: str) -> Prediction:
        if audio.samples < FRAME_SAMPLES:
            raise AudioError(f"{name or 'waveform'}: {audio.samples} samples, expected {FRAME_SAMPLES} (25 ms) or more")
        overview = look_over(audio)
        sound = sounding(overview.levels, self.silence)
        windows = plan_windows(sound, self.longest)
        if not windows:
            raise AudioError(f"{name or 'waveform'}: nothing but silence in {audio.samples / SAMPLE_RATE:.0f} s")
        stitched = _Stitched(len(sound), len(self.classes), self.units is not None)
        bar = tqdm(
            total=len(windows), desc=name, unit="window", leave=False, disable=None if len(windows) > 9 else True
        )
        with bar:
            for batch in _batches(windows, self.model.head.weight.device):
                self._hear(audio, batch, stitched)
                bar.update(len(batch))
        probabilities, attention, posteriors = stitched.finish()
        spoken = sound & ~np.isnan(posteriors[:, 0])
        # 1: as much as any other frame; the attention of a head that judges frames is that of the one emotion that wins
        alike = self.model.pooling.judges_frames
        weights = np.ones_like(attention) if alike else attention * np.count_nonzero(attention)
        segments = find_segments(posteriors, weights, spoken, self.classes, FRAME_SECONDS, self.change)
        return Prediction(
            id=name, seconds=audio.samples / SAMPLE_RATE, classes=self.classes, probabilities=probabilities,
            attention=attention, posteriors=posteriors, sound=sound, clusters=stitched.clusters,
            weighted=self.model.pooling.has_frame_logits, segments=tuple(segments), overview=overview,
        )  # fmt: skip

    @torch.inference_mode()
    def _hear(self, audio: Audio, windows: Sequence[Window], stitched: "_Stitched") -> None:
        """Run the model on some windows at once."""
        waveforms = [audio.read(*_samples(window, audio.samples)) for window in windows]
        result = self.model.listen([torch.from_numpy(waveform) for waveform in waveforms])
        whole = self.model.probabilities(result["logits"]).cpu().numpy()
        if self.model.pooling.has_frame_logits:
            frames = self.model.probabilities(self.model.frame_logits(result["x"])).cpu().numpy()
        else:
            frames = np.repeat(whole[:, None], result["x"].size(1), axis=1)
        attention = result["attention"].double().cpu().numpy()
        for row, (window, waveform) in enumerate(zip(windows, waveforms)):
            length = window.stop - window.start
            stitched.add(window, whole[row], frames[row, :length], attention[row, :length])
            if self.units is not None and stitched.clusters is not None:
                stitched.clusters[window.start : window.stop] = self.units.label(waveform)


class _Waveform:
    """A waveform in memory as Audio."""

    def __init__(self, samples: np.ndarray) -> None:
        self._values, self.samples = samples, len(samples)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._values[start:stop]


class _Stitched:
    """The windows' frames as those of the recording; where windows overlap, their middles count most."""

    def __init__(self, frames: int, classes: int, with_clusters: bool) -> None:
        self.weight = np.zeros(frames)
        self.attention, self.posteriors = np.zeros(frames), np.zeros((frames, classes))
        self.whole, self.heard = np.zeros(classes), 0
        self.clusters = np.full(frames, -1) if with_clusters else None

    def add(self, window: Window, whole: np.ndarray, posteriors: np.ndarray, attention: np.ndarray) -> None:
        place, length = slice(window.start, window.stop), window.stop - window.start
        weight = triangle(length)
        self.weight[place] += weight
        self.attention[place] += weight * attention * length  # in multiples of a uniform weight
        self.posteriors[place] += weight[:, None] * posteriors
        self.whole += length * whole
        self.heard += length

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities (C,), attention (T,) that sums to 1, posteriors (T, C), nan where nothing was heard."""
        with np.errstate(invalid="ignore"):
            posteriors = (self.posteriors / self.weight[:, None]).astype(np.float32)
        attention = np.divide(self.attention, self.weight, out=np.zeros_like(self.weight), where=self.weight > 0)
        return self.whole / self.heard, attention / attention.sum(), posteriors


def _samples(window: Window, total: int) -> tuple[int, int]:
    """Where a window's frames begin and end; the last has what is left, as a whole recording has it."""
    stop = (window.stop - 1) * HOP_SAMPLES + FRAME_SAMPLES
    return window.start * HOP_SAMPLES, total if total - stop < HOP_SAMPLES else stop


def _batches(windows: Sequence[Window], device: torch.device) -> Iterator[list[Window]]:
    """Windows by length, so many at once as a GPU likes; one at once on a CPU, which is faster without padding."""
    frames = GPU_BATCH_SECONDS / FRAME_SECONDS if device.type == "cuda" else 0
    batch: list[Window] = []
    for window in sorted(windows, key=lambda w: w.stop - w.start):
        if batch and (len(batch) + 1) * (window.stop - window.start) > frames:
            yield batch
            batch = []
        batch.append(window)
    yield batch
