"""A model that is ready for use gives what it gave before, with less to compute."""

import torch

from flea_fairseq.models.checkpoints import load_encoder
from flea_fairseq.models.device import on_best_device


def test_weight_norm_is_folded_to_the_same_bits(hugging_face_folder):
    source = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0)) * 0.1
    encoder = load_encoder(hugging_face_folder).eval()
    with torch.inference_mode():
        expected, _ = encoder(source)
        ready = on_best_device(encoder)
        got, _ = ready(source.to(next(ready.parameters()).device))
    assert not [name for name, _ in ready.named_parameters() if name.endswith("weight_g")]
    assert torch.equal(got.cpu(), expected) or (torch.cuda.is_available() and torch.allclose(got.cpu(), expected))
