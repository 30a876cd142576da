"""A thread that loads data computes by itself; the main thread keeps its cores."""

import threading

import pytest
import torch

from flea_fairseq.data.emotion_dataset import EmotionDataset
from flea_fairseq.data.loading_thread import load_with_one_core
from flea_fairseq.data.manifest import Manifest


def in_a_thread(work) -> list:
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_only_the_loading_thread_is_held_to_one_core(two_threads):
    def load() -> int:
        load_with_one_core()
        return torch.get_num_threads()

    assert in_a_thread(load) == [1]
    assert torch.get_num_threads() == 2
    load_with_one_core()
    assert torch.get_num_threads() == 2


def test_loading_an_utterance_takes_one_core(two_threads, tmp_path):
    """Whatever the utterance: the thread's team would start with its first large tensor."""
    dataset = EmotionDataset(Manifest(tmp_path, ("missing.wav",), (16000,)), [0])

    def load() -> int:
        with pytest.raises(Exception, match="missing.wav"):
            dataset[0]
        return torch.get_num_threads()

    assert in_a_thread(load) == [1]
    assert torch.get_num_threads() == 2
