"""Where and how models run when they are not trained by fairseq: the one place that decides."""

from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils import remove_weight_norm

from flea_fairseq.allocator import keep_few_primitives, keep_freed_memory

Model = TypeVar("Model", bound=nn.Module)


def best_device() -> torch.device:
    """The GPU if there is one, or else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_best_device(model: Model) -> Model:
    """Move a model there, to be used and no longer trained.

    The product of direction and length that weight normalisation (of the positions' convolution, 4.7 million weights)
    makes in every pass is made once, to the same bits.
    """
    keep_few_primitives(20)  # one pass has 15
    keep_freed_memory()
    for module in model.modules():
        if hasattr(module, "weight_g"):
            remove_weight_norm(module)
    return model.eval().to(best_device())
