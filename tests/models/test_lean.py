"""Layers and convolutions that keep less, against fairseq's own and against numerical gradients."""

import copy
import gc

import pytest
import torch
from fairseq.models.wav2vec.wav2vec2 import ConvFeatureExtractionModel, TransformerSentenceEncoderLayer
from torch import nn

from flea_fairseq.models.lean_cnn import convolve
from flea_fairseq.models.lean_layer import LeanLayer, attend_with_dropout, dropout, kept
from flea_fairseq.models.lean_positions import LeanPositions


def both(layer_norm_first: bool, **p: float) -> tuple[TransformerSentenceEncoderLayer, LeanLayer]:
    torch.manual_seed(0)
    shape = dict(embedding_dim=32, ffn_embedding_dim=64, num_attention_heads=4, activation_fn="gelu")
    off = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
    theirs = TransformerSentenceEncoderLayer(**shape, **{**off, **p}, layer_norm_first=layer_norm_first).train()
    ours = copy.deepcopy(theirs)
    ours.__class__ = LeanLayer
    return theirs, ours


@pytest.mark.parametrize("layer_norm_first", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("attention", [0.0, 1e-9])  # the second goes through our own attention, and drops nothing
def test_a_layer_is_fairseqs(layer_norm_first, padded, attention):
    theirs, ours = both(layer_norm_first, attention_dropout=attention)
    x = torch.randn(11, 3, 32, generator=torch.Generator().manual_seed(1))
    padding = torch.arange(11) >= torch.tensor([11, 7, 5])[:, None] if padded else None
    results = []
    for layer in (theirs, ours):
        source = x.clone().requires_grad_()
        output, (_, result) = layer(source, self_attn_padding_mask=padding)
        (output.square().sum() + result.sum()).backward()
        results.append([output, result, source.grad, *[p.grad for p in layer.parameters()]])
    for expected, got in zip(*results):
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_gradients_with_dropout_are_those_of_the_function():
    """Against finite differences, with the same numbers drawn each time."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 5, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])

    def drawn(function):
        torch.manual_seed(7)
        return function()

    assert torch.autograd.gradcheck(lambda *x: drawn(lambda: attend_with_dropout(*x, padding, 0.4)), (q, k, v))
    assert torch.autograd.gradcheck(lambda x: drawn(lambda: dropout(x, 0.4)), (q,))


def test_dropout_keeps_the_share_and_the_mean():
    """Of 4 million a share of .1 has a deviation of 1.5e-4; the limits are five times that."""
    torch.manual_seed(0)
    mask = kept(torch.Size([4, 1000, 1000]), 0.1)
    assert abs(1 - mask.float().mean().item() - 0.1) < 8e-4
    assert abs(mask.view(-1, 4).float().mean(0) - 0.9).max() < 2e-3  # the four numbers of a draw are alike
    pairs = mask.view(-1, 2)
    assert abs((pairs[:, 0] & pairs[:, 1]).float().mean().item() - 0.81) < 2e-3  # and independent
    dropped = dropout(torch.ones(1000, 1000), 0.25)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75]) and abs(dropped.mean().item() - 1) < 3e-3
    torch.manual_seed(3)
    once = kept(torch.Size([7]), 0.5)
    torch.manual_seed(3)
    assert torch.equal(once, kept(torch.Size([7]), 0.5))


@pytest.mark.parametrize("mode", ["default", "layer_norm"])
def test_convolutions_are_fairseqs(mode):
    torch.manual_seed(0)
    layers = [(8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 2, 2)]
    theirs = ConvFeatureExtractionModel(layers, mode=mode, conv_bias=mode == "layer_norm")
    ours, source = copy.deepcopy(theirs), torch.randn(3, 2000)
    expected, got = theirs(source), convolve(ours, source)
    assert torch.allclose(got, expected, atol=1e-6)
    expected.square().sum().backward()
    got.square().sum().backward()
    for a, b in zip(theirs.parameters(), ours.parameters()):
        assert torch.allclose(b.grad, a.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [3, 8])  # at once, and in four parts of two groups
@pytest.mark.parametrize("kernel, batch, time", [(16, 3, 11), (16, 3, 12), (5, 2, 30), (6, 1, 9), (16, 1, 3)])
def test_positions_are_torchs_convolution(kernel, batch, time, groups):
    """Odd and even kernels and lengths, shorter and longer than the kernel; the last is not transformed."""
    torch.manual_seed(0)
    theirs = nn.Conv1d(24, 48, kernel, padding=kernel // 2, groups=groups).double()
    ours, x = copy.deepcopy(theirs).float(), torch.randn(batch, 24, time, dtype=torch.float64)
    ours.__class__ = LeanPositions
    results = []
    for conv, source in ((theirs, x), (ours, x.float())):
        source.requires_grad_()
        output = conv(source)
        output.square().sum().backward()
        results.append([output, source.grad, conv.weight.grad, conv.bias.grad])
    for expected, got in zip(*results):
        assert got.shape == expected.shape and torch.allclose(got.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_activations_of_a_dropped_out_feed_forward_have_its_gradient():
    """Against finite differences, in a layer and with the same numbers drawn each time."""
    _, ours = both(True, activation_dropout=0.3)
    ours.double().activation_fn = torch.nn.functional.gelu  # fairseq's computes in single precision
    x = torch.randn(3, 2, 32, dtype=torch.float64, requires_grad=True)

    def drawn(x, *parameters):
        torch.manual_seed(7)
        return ours._feed_forward(x)

    assert torch.autograd.gradcheck(drawn, (x, ours.fc2.weight, ours.fc2.bias, ours.fc1.bias), fast_mode=True)
    assert not torch.equal(drawn(x), ours.eval()._feed_forward(x))


def test_a_layer_without_gradients_is_fairseqs():
    theirs, ours = both(False)
    x = torch.randn(11, 3, 32)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(x)[0], theirs.eval()(x)[0], atol=1e-5)


def test_less_is_kept_for_the_backward_pass():
    """Bytes of activations that autograd holds; parameters are there anyway."""
    theirs, ours = both(False, attention_dropout=0.1, dropout=0.1)
    extractor = ConvFeatureExtractionModel([(16, 10, 5), (16, 3, 2), (16, 2, 2)])
    x, source = torch.randn(50, 4, 32), torch.randn(2, 8000)

    def held(function) -> int:
        """What autograd saves, and what Python's objects (the segments that are computed again) hold on to."""
        saved: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        gc.collect()
        before = [object_ for object_ in gc.get_objects() if type(object_) in (torch.Tensor, torch.nn.Parameter)]
        own = {tensor.untyped_storage().data_ptr() for tensor in before}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = function()
        for object_ in gc.get_objects():
            if type(object_) is torch.Tensor:
                keep(object_)
        del output
        return sum(size for place, size in saved.items() if place not in own)

    assert held(lambda: ours(x)) < 0.6 * held(lambda: theirs(x))
    assert held(lambda: convolve(extractor, source)) < 0.3 * held(lambda: extractor(source))
