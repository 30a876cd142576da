"""A thread that loads data computes by itself; the main thread keeps its cores."""

import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from fairseq.data import FileAudioDataset

from flea_fairseq.data.emotion_dataset import EmotionDataset
from flea_fairseq.data.loading_thread import load_with_one_core
from flea_fairseq.data.manifest import Manifest
from flea_fairseq.tasks.flea_pretraining import SeededCrops


def in_a_thread(work) -> list:
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found


def test_only_the_loading_thread_is_held_to_one_core(two_threads):
    def load() -> int:
        load_with_one_core()
        return torch.get_num_threads()

    assert in_a_thread(load) == [1]
    assert torch.get_num_threads() == 2
    load_with_one_core()
    assert torch.get_num_threads() == 2


def recordings(folder: Path) -> EmotionDataset:
    return EmotionDataset(Manifest(folder, ("a.wav",), (16000,)), [0])


def crops(folder: Path) -> SeededCrops:
    """Over fairseq's own dataset, which knows nothing of threads."""
    (folder / "ssl.tsv").write_text(f"{folder}\na.wav\t16000\n")
    return SeededCrops(FileAudioDataset(folder / "ssl.tsv", 16000), seed=1)


@pytest.mark.parametrize("make", [recordings, crops])
def test_loading_an_utterance_takes_one_core(two_threads, tmp_path, make):
    """Whatever the utterance: the thread's team would start with its first large tensor."""
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    dataset = make(tmp_path)

    def load() -> int:
        assert len(dataset[0]["source"]) == 16000
        return torch.get_num_threads()

    assert in_a_thread(load) == [1]
    assert torch.get_num_threads() == 2
