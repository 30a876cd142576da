"""fairseq's transformer layer with the same parameters and results, and with less memory and time in training."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.models.wav2vec.wav2vec2 import TransformerEncoder, TransformerSentenceEncoderLayer
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from flea_fairseq.models.lean_positions import LeanPositions
from flea_fairseq.models.precision import is_single_on_cpu

Activation = Callable[[Tensor], Tensor]
LEVELS = 1 << 16  # of the random numbers that dropout compares with: probabilities are rounded to 1/65536


def make_lean(transformer: TransformerEncoder) -> None:
    """Let a transformer compute as `LeanLayer` and `LeanPositions` do; parameters and their names stay.

    Nor are odd lengths padded, as fairseq does: attention would be a masked one, for which the fast kernels are fewer.
    """
    transformer.required_seq_len_multiple = 1
    for layer in transformer.layers:
        if type(layer) is TransformerSentenceEncoderLayer and "forward" not in vars(layer):
            layer.__class__ = LeanLayer
    for module in transformer.pos_conv.modules():
        if type(module) is nn.Conv1d:
            module.__class__ = LeanPositions


class LeanLayer(TransformerSentenceEncoderLayer):
    """The same function of the same parameters, (T, B, D) -> (T, B, D).

    The activations of the feed-forward block are computed again in the backward pass, which costs an activation
    function and saves a quarter of the layer's memory. On a CPU, where torch has no fused attention with
    dropout, attention keeps its weights once and its mask in bits' place (bytes) instead of four full matrices; and
    dropout's random numbers are drawn 16 bits at a time, which is ten times as fast.
    """

    def forward(
        self,
        x: Tensor,
        self_attn_mask: Tensor | None = None,
        self_attn_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        att_args: object = None,
    ) -> tuple[Tensor, tuple[None, Tensor]]:
        """As fairseq's; self_attn_padding_mask: (B, T), True on padding."""
        if self.layer_norm_first:
            x = x + self._drop(self._attend(self.self_attn_layer_norm(x), self_attn_padding_mask))
            result = self._feed_forward(self.final_layer_norm(x))
            return x + self._drop(result), (None, result)
        x = self.self_attn_layer_norm(x + self._drop(self._attend(x, self_attn_padding_mask)))
        result = self._feed_forward(x)
        return self.final_layer_norm(x + self._drop(result)), (None, result)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout1.p if self.training else 0.0)

    def _attend(self, x: Tensor, padding: Tensor | None) -> Tensor:
        attention = self.self_attn
        time, batch, dim = x.shape
        shape = (time, batch, attention.num_heads, dim // attention.num_heads)
        q, k, v = (
            linear(project, x).view(shape).permute(1, 2, 0, 3)  # (B, heads, T, D / heads)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        p = attention.dropout_module.p if self.training else 0.0
        if p > 0 and not x.is_cuda:
            mixed = attend_with_dropout(q, k, v, padding, p)
        else:
            allowed = None if padding is None else ~padding[:, None, None, :]
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=p)
        return linear(attention.out_proj, mixed.permute(2, 0, 1, 3).reshape(time, batch, dim))

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden, p = linear(self.fc1, x), self.dropout2.p if self.training else 0.0
        if not torch.is_grad_enabled():
            return linear(self.fc2, dropout(self.activation_fn(hidden), p))
        return _Activated.apply(hidden, self.fc2.weight, self.fc2.bias, self.activation_fn, p)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """The same as `layer(x)` up to rounding.

    Without gradients, on a CPU and in single precision by the operation of oneDNN that torch's own compiler turns a
    linear layer into: with a recording's few frames it is a fifth faster than the product that torch takes by itself.
    """
    if torch.is_grad_enabled() or not is_single_on_cpu(x) or not torch.backends.mkldnn.is_available():
        return layer(x)
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")


def dropout(x: Tensor, p: float) -> Tensor:
    """As F.dropout while training; on a CPU with cheaper random numbers, and a mask of bytes."""
    if p == 0:
        return x
    return F.dropout(x, p) if x.is_cuda else _Dropout.apply(x, p)


def attend_with_dropout(q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None, p: float) -> Tensor:
    """Scaled dot-product attention whose weights are dropped with probability p: (B, heads, T, d) -> the same."""
    batch, heads, time, dim = q.shape
    q, k, v = (part.reshape(batch * heads, time, dim) for part in (q * dim**-0.5, k, v))
    if padding is not None:
        padding = padding.repeat_interleave(heads, 0).unsqueeze(1)
    return _Attention.apply(q, k, v, padding, p).view(batch, heads, time, dim)


def chosen(x: Tensor, p: float) -> Tensor:
    """A mask for x, False with probability p: bool of its shape, where x is."""
    return torch.rand(x.shape, device=x.device) >= p if x.is_cuda else kept(x.shape, p)


def kept(shape: torch.Size, p: float) -> Tensor:
    """A mask that is False with probability p, from torch's generator: bool of this shape, on the CPU."""
    count = shape.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    return (bits >= round(p * LEVELS) - LEVELS // 2).view(shape)


class _Dropout(Function):
    @staticmethod
    def forward(context: Any, x: Tensor, p: float) -> Tensor:
        mask = kept(x.shape, p)
        context.save_for_backward(mask)
        context.scale = 1 / (1 - p)
        return torch.where(mask, x, 0).mul_(context.scale)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = context.saved_tensors
        return torch.where(mask, gradient, 0).mul_(context.scale), None


class _Activated(Function):
    """A linear layer of the dropped-out activations of `hidden`, (..., in) -> (..., out).

    torch would keep the activations for the weights' gradient; torch's checkpoint would compute the product again.
    """

    @staticmethod
    def forward(context: Any, hidden: Tensor, weight: Tensor, bias: Tensor, activation: Activation, p: float) -> Tensor:
        mask = chosen(hidden, p) if p > 0 else None
        context.save_for_backward(hidden, weight, mask)
        context.activation, context.p = activation, p
        return F.linear(_activate(hidden, activation, mask, p), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        hidden, weight, mask = context.saved_tensors
        with torch.enable_grad():
            hidden = hidden.detach().requires_grad_()
            active = _activate(hidden, context.activation, mask, context.p)
        (to_hidden,) = torch.autograd.grad(active, hidden, gradient @ weight.to(gradient.dtype))
        rows = gradient.flatten(0, -2)
        to_weight = (rows.t() @ active.detach().flatten(0, -2)).to(weight.dtype)
        return to_hidden, to_weight, rows.sum(0).to(weight.dtype), None, None


def _activate(hidden: Tensor, activation: Activation, mask: Tensor | None, p: float) -> Tensor:
    active = activation(hidden)
    return active if mask is None else torch.where(mask, active, 0) * (1 / (1 - p))


class _Attention(Function):
    """softmax(q k^T) with dropout, times v: (N, T, d) each; q is scaled; padding: (N, 1, T) or None."""

    @staticmethod
    def forward(context: Any, q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None, p: float) -> Tensor:
        scores = torch.bmm(q, k.transpose(1, 2))
        if padding is not None:
            scores.masked_fill_(padding, float("-inf"))
        weights = scores.softmax(-1).to(q.dtype)
        del scores
        mask, context.scale = kept(weights.shape, p), 1 / (1 - p)
        context.save_for_backward(q, k, v, weights, mask)
        return torch.bmm(torch.where(mask, weights, 0), v).mul_(context.scale)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, weights, mask = context.saved_tensors
        gradient = gradient * context.scale
        to_v = torch.bmm(torch.where(mask, weights, 0).transpose(1, 2), gradient)
        to_weights = torch.where(mask, torch.bmm(gradient, v.transpose(1, 2)), 0)
        to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
        return torch.bmm(to_scores, k), torch.bmm(to_scores.transpose(1, 2), q), to_v, None, None
