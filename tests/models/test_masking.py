"""Span masks against fairseq's, and against the clips on which fairseq stops."""

import numpy as np
import pytest
import torch
from fairseq.data.data_utils import compute_mask_indices

from flea_fairseq.models.masking import apply_masks, frame_mask, span_mask


@pytest.mark.parametrize("prob,length", [(0.8, 10), (0.08, 10), (0.5, 5)])
def test_same_distribution_as_fairseq(prob, length):
    rng = np.random.default_rng(0)
    ours = np.array([span_mask(300, prob, length, rng) for _ in range(2000)])
    np.random.seed(0)
    theirs = np.concatenate([compute_mask_indices((1, 300), None, prob, length, min_masks=2) for _ in range(2000)])
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.01)
    assert ours.mean(0)[20:280] == pytest.approx(theirs.mean(0)[20:280], abs=0.08)
    starts = lambda mask: (np.diff(mask.astype(int), axis=1) == 1).sum(1).mean()  # noqa: E731
    assert starts(ours) == pytest.approx(starts(theirs), rel=0.05)


@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 11])
def test_short_clips_keep_a_frame(size):
    for seed in range(50):
        mask = span_mask(size, 0.8, 10, np.random.default_rng(seed))
        assert mask.shape == (size,) and not mask.all()
        assert mask.any() == (size > 1)


def test_padding_is_never_masked_and_rows_do_not_depend_on_each_other():
    padding = torch.zeros(3, 40, dtype=torch.bool)
    padding[1, 12:] = True
    rngs = lambda: [np.random.default_rng(i) for i in range(3)]  # noqa: E731
    mask = frame_mask((3, 40), padding, 0.5, 5, rngs())
    assert not mask[1, 12:].any() and mask[1, :12].any()
    assert torch.equal(mask[2], frame_mask((1, 40), None, 0.5, 5, rngs()[2:])[0])


def test_masked_frames_take_the_embedding_and_masked_channels_zero():
    x = torch.ones(2, 30, 16)
    out, mask = apply_masks(
        x, None, torch.full((16,), 7.0), (0.5, 5), (0.5, 4), [np.random.default_rng(i) for i in (0, 1)]
    )
    assert set(out[mask].unique().tolist()) == {0.0, 7.0} and set(out[~mask].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(x, torch.ones(2, 30, 16))
