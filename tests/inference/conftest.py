"""A tiny classifier with random weights, real speech where it is at hand, and a long recording with pauses."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from flea_fairseq import EmotionRecognizer


@pytest.fixture(scope="session")
def model_file(save_classifier, tmp_path_factory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture(scope="session")
def recognizer(model_file) -> EmotionRecognizer:
    return EmotionRecognizer.from_pretrained(model_file)


@pytest.fixture(scope="session")
def speech(tmp_path_factory) -> np.ndarray:
    """Three seconds: a buzz with syllables."""
    seconds = np.arange(3 * 16000) / 16000
    buzz = np.sign(np.sin(2 * np.pi * 140 * seconds + 3 * np.sin(5 * seconds)))
    return (0.2 * buzz * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * seconds))).astype(np.float32)


@pytest.fixture(scope="session")
def wav(speech, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "one.wav"
    soundfile.write(path, speech, 16000)
    return path


@pytest.fixture(scope="session")
def long_wav(speech, tmp_path_factory) -> Path:
    """62 s, in a folder of its own: speech of 3 s at 5, 20 and 50 s, nothing between."""
    samples = np.zeros(62 * 16000, dtype=np.float32)
    for start, gain in ((5, 1.0), (20, 0.4), (50, 0.7)):
        samples[start * 16000 : (start + 3) * 16000] = gain * speech
    path = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(path, samples, 16000)
    return path
