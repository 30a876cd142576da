"""Where batches are loaded: fairseq gives that a thread of its own, in the process that trains."""

import threading

import torch


def load_with_one_core() -> None:
    """Let a thread other than the main one compute by itself; to be called before it computes anything.

    Its first large tensor would else start a second team of OpenMP threads. With more threads than cores those of the
    model wait for each other asleep instead of spinning, which costs a sixth of every update. The main thread
    keeps its own number; threads that first compute after this one are like it.
    """
    if threading.current_thread() is not threading.main_thread() and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
