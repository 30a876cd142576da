"""Any audio file that libsndfile reads -> 16 kHz mono float32, or an AudioError that says what is wrong with it."""

import io
import os
import struct
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
import soundfile

from flea_fairseq.data.files import write_bytes
from flea_fairseq.errors import AudioError

SAMPLE_RATE = 16000
# HuBERT's CNN sees 400 samples (25 ms) a frame and moves by 320 (20 ms).
FRAME_SAMPLES = 400
HOP_SAMPLES = 320
# Writers to a pipe cannot know the length, and put a number near 2^31 or 2^32 into the WAV header.
UNKNOWN_WAV_SIZE = 0x7FFFF000
SAMPLE_RATES = range(4000, 768_001)  # of recordings of speech
MAX_TAPS = 1 << 24  # of the resampling filter: 128 MiB; 44.1 kHz needs 70 thousand, a rate such as 44101 Hz 700 million
# Decoded audio may take so many times the file's size: Opus at 6 kbit/s takes 512. Short ones may take more.
MAX_RATIO = 1000
SHORT = 64 << 20
FILTER_PERIODS = 14  # 6 on both sides in torchaudio's filter


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says: samples a channel, samples a second, channels."""

    frames: int
    sample_rate: int
    channels: int


def frame_count(samples: int) -> int:
    """Frames that HuBERT's CNN makes of 16 kHz samples (50 a second); 0 if there are too few for one."""
    return max(0, (samples - FRAME_SAMPLES) // HOP_SAMPLES + 1)


def write_audio(path: str | Path, samples: np.ndarray) -> None:
    """Write (samples,) int16, or floats up to 1, as 16 kHz, mono, 16 bit, in the format of the name's suffix.

    It is encoded in memory: on a full disk libsndfile loses the end of a FLAC file, and says nothing.
    """
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, SAMPLE_RATE, subtype="PCM_16", format=Path(path).suffix[1:])
    write_bytes(path, encoded.getvalue())


def read_audio(path: str | Path) -> np.ndarray:
    """Decode a file to (samples,) float32, 16 kHz, mono; channels are averaged, other rates are resampled.

    Raises AudioError for a file that is missing, empty, not audio, truncated, or holds non-finite samples.
    """
    samples, sample_rate = decode(path)
    mono = samples.mean(axis=1)
    return mono if sample_rate == SAMPLE_RATE else resample(mono, sample_rate)


def read_listed(path: str | Path, samples: int) -> np.ndarray:
    """Decode a recording of a manifest, which says its length: (samples,) float32 at 16 kHz, mono.

    Raises AudioError, also for another length: its labels would be those of other frames.
    """
    waveform = read_audio(path)
    check_samples(path, len(waveform), samples)
    return waveform


def check_samples(path: str | Path, found: int, listed: int) -> None:
    """Raise AudioError where a decoded recording has not as many samples at 16 kHz as its manifest says."""
    if found != listed:
        raise AudioError(f"{path}: {found} samples at 16 kHz, the manifest says {listed}; write the manifest again")


def decode(path: str | Path) -> tuple[np.ndarray, int]:
    """Decode a whole file as it is: (samples, channels) float32 and its sample rate. Raises AudioError."""
    info = probe_audio(path)
    try:
        samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (RuntimeError, ValueError, OSError) as error:
        raise _damaged(path, f"cannot be decoded to its end: {error}") from error
    if len(samples) < info.frames:
        raise _truncated(path, f"{len(samples)} of {info.frames} samples are there")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds samples that are not finite numbers; export the file again as 16-bit PCM")
    return samples, sample_rate


def probe_audio(path: str | Path) -> AudioInfo:
    """Read a file's header, and decode only its last sample to see that the end is there.

    Raises AudioError for a file that is missing, empty, not audio, or truncated.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such audio file; check the corpus root and the manifest")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes); copy it again")
    try:
        info = soundfile.info(path)
    except UnicodeEncodeError as error:
        raise AudioError(f"{path}: its name is no UTF-8 text; rename the file") from error
    except (RuntimeError, TypeError, OSError) as error:  # TypeError: headerless .raw
        raise AudioError(f"{path}: not audio that libsndfile can read ({error}); convert it to WAV or FLAC") from error
    _check_wav_size(path)
    if info.frames <= 0:
        raise AudioError(f"{path}: holds no samples (a header only); copy or export it again")
    _check_claims(path, info.frames, info.samplerate, info.channels)
    _check_last_sample(path, info.frames)
    return AudioInfo(frames=info.frames, sample_rate=info.samplerate, channels=info.channels)


def resample(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """(samples,) float32 of any rate at 16 kHz, with the filter of torchaudio."""
    import torch  # slow to import, and rarely needed
    from torchaudio.functional import resample as at_rate

    return at_rate(torch.from_numpy(samples), sample_rate, SAMPLE_RATE).numpy()


def _check_claims(path: Path, frames: int, sample_rate: int, channels: int) -> None:
    """Refuse what a header claims but no recording of speech has, before memory is taken for it."""
    if sample_rate not in SAMPLE_RATES:
        raise AudioError(
            f"{path}: {sample_rate} Hz, expected {SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]}; convert it to 16 kHz"
        )
    common = gcd(sample_rate, SAMPLE_RATE)
    up, down = SAMPLE_RATE // common, sample_rate // common
    if up * (down + FILTER_PERIODS * max(1, down // up)) > MAX_TAPS:
        raise AudioError(
            f"{path}: {sample_rate} Hz has too little in common with {SAMPLE_RATE} Hz to be resampled; "
            "convert it to 16 kHz"
        )
    claimed, there = 4 * frames * channels, path.stat().st_size
    if claimed > max(SHORT, MAX_RATIO * there):
        raise AudioError(
            f"{path}: its header promises {frames} samples in {channels} channels, {claimed >> 20} MiB, of which the "
            f"file's {there} bytes can hold no more than a part; copy the file again"
        )


def _check_wav_size(path: Path) -> None:
    """libsndfile silently shortens a cut WAV file, so compare the size its header promises with what is there."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        riff, _, wave = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        if riff != b"RIFF" or wave != b"WAVE":
            return
        while len(header := file.read(8)) == 8:
            name, claimed = struct.unpack("<4sI", header)
            if name == b"data":
                there = size - file.tell()
                if there < claimed < UNKNOWN_WAV_SIZE:
                    raise _truncated(path, f"the header promises {claimed} bytes of samples, {there} are there")
                return
            file.seek(claimed + claimed % 2, os.SEEK_CUR)  # chunks begin at even places


def _check_last_sample(path: Path, frames: int) -> None:
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(frames - 1)
            read = len(file.read(1, dtype="float32"))
    except (RuntimeError, ValueError, OSError) as error:
        raise _damaged(path, f"its last sample cannot be read: {error}") from error
    if read == 0:
        raise _truncated(path, f"the header promises {frames} samples, the last one is not there")


def _truncated(path: str | Path, detail: str) -> AudioError:
    return AudioError(f"{path}: truncated ({detail}); copy the file again")


def _damaged(path: str | Path, detail: str) -> AudioError:
    return AudioError(f"{path}: truncated or damaged ({detail}); copy the file again")
