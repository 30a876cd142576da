"""Half precision that works on processors and GPUs alike, whatever fairseq's `common` settings are."""

import torch
from torch import Tensor

PRECISIONS = ("fp32", "bf16")
PRECISION_HELP = (
    "bf16: matrix products and convolutions in half precision, weights and optimiser in full;"
    " faster on hardware made for it (GPUs since 2020; processors with avx512_bf16 or amx_bf16)"
)


def in_precision(name: str, device: torch.device) -> torch.autocast:
    """A context in which what can be computed in bf16 is, if `name` says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16")


def is_single_on_cpu(x: Tensor) -> bool:
    """Whether operations on x are computed on a processor in single precision: what our own kernels are for."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
