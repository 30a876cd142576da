"""The speech synthesiser espeak-ng through ctypes, from the package espeakng-loader (library and voices)."""

import ctypes
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from flea_fairseq.errors import FleaError

SAMPLE_RATE = 16000
# From espeak-ng's speak_lib.h
SYNCHRONOUS, DONT_EXIT, UTF8, POSITION_CHARACTER = 2, 0x8000, 1, 1
PARAMETERS = (1, 2, 3, 4)  # rate, volume, pitch, range
REINSTALL = "pip install --force-reinstall espeakng-loader"
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Prosody:
    """rate: words a minute (80-450); volume: 0-200; pitch and its range: 0-100."""

    rate: float
    volume: float
    pitch: float
    range: float

    def jittered(self, random: np.random.Generator, amount: float) -> "Prosody":
        """Each value times its own factor, uniform in 1 +- amount."""
        return Prosody(*(value * random.uniform(1 - amount, 1 + amount) for value in astuple(self)))


class Espeak:
    """One synthesiser a process: the library keeps its state in globals.

    The same calls in the same order give the same samples, if they are the first of their process. `seed`: of the
    breath in some voices, which would else depend on the clock.
    Raises FleaError if the package is missing or the library does not start.
    """

    def __init__(self, seed: int) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise FleaError("the speech synthesiser is missing; install it: pip install espeakng-loader") from None
        self._voices = Path(espeakng_loader.get_data_path()) / "voices/!v"
        try:
            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        except OSError as error:
            raise FleaError(f"espeak-ng cannot be loaded ({error}); {REINSTALL}") from None
        data = str(espeakng_loader.get_data_path()).encode()
        self._rate = self._library.espeak_Initialize(SYNCHRONOUS, 0, data, DONT_EXIT)
        if self._rate <= 0:
            raise FleaError(f"espeak-ng does not start with {data.decode()}; {REINSTALL}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._blocks: list[np.ndarray] = []
        self._callback = CALLBACK(self._receive)  # the library holds a bare pointer: keep it alive
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: str, prosody: Prosody) -> np.ndarray:
        """Speak in a voice like `en-us+f1` (language+variant): (samples,) float64 in -1..1 at 16 kHz."""
        variant = voice.partition("+")[2]
        known = not variant or (self._voices / variant).is_file()  # espeak itself ignores an unknown variant
        if not known or self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise FleaError(f"espeak-ng has no voice {voice!r}; see `espeak-ng --voices` and its folder voices/!v")
        for parameter, value in zip(PARAMETERS, astuple(prosody)):
            self._library.espeak_SetParameter(parameter, round(value), 0)
        self._blocks.clear()
        words = text.encode()
        self._library.espeak_Synth(words, len(words) + 1, 0, POSITION_CHARACTER, 0, UTF8, None, None)
        if not self._blocks:
            raise FleaError(f"espeak-ng gives no samples for {text!r} in voice {voice!r}")
        return resample_poly(np.concatenate(self._blocks) / 32768.0, SAMPLE_RATE, self._rate)

    def _receive(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: int) -> int:
        if samples and count > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
