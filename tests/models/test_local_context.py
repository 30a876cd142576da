"""The transformer over short windows: beside the same transformer on each window alone, cut by hand."""

import pytest
import torch

from flea_fairseq.models.encoder import Encoder, EncoderConfig
from flea_fairseq.models.local_context import Windows

LENGTH = 12


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    shape = EncoderConfig(
        conv_layers=((8, 10, 5), (8, 8, 8), (8, 8, 8)), encoder_layers=2, encoder_embed_dim=16,
        encoder_ffn_embed_dim=32, encoder_attention_heads=2, conv_pos=8, conv_pos_groups=2,
    )  # fmt: skip
    return Encoder(shape).eval()


def samples(frames: int) -> int:
    return 320 * (frames - 1) + 400


def encoded(encoder: Encoder, x: torch.Tensor, frames: list[int], context: int = LENGTH) -> torch.Tensor:
    """x: what the convolutions gave, (B, T, C)."""
    with torch.no_grad():
        return encoder(x, torch.tensor([samples(n) for n in frames]), context=context)[0]


def test_the_windows_of_thirty_frames_by_hand(encoder):
    """12 frames every 6: 0 to 11, 6 to 17, 12 to 23, 18 to 29; each gives its middle half, the outer two their ends."""
    x = torch.randn(1, 30, 8)
    alone = {start: encoded(encoder, x[:, start : start + 12], [12], context=0)[0] for start in (0, 6, 12, 18)}
    parts = [alone[0][:9], alone[6][3:9], alone[12][3:9], alone[18][3:]]
    assert torch.allclose(encoded(encoder, x, [30])[0], torch.cat(parts), atol=1e-5)


@pytest.mark.parametrize("frames", [1, 5, 12])
def test_what_is_no_longer_than_the_context_is_heard_whole(encoder, frames):
    x = torch.randn(1, frames, 8)
    assert torch.allclose(encoded(encoder, x, [frames]), encoded(encoder, x, [frames], context=0), atol=1e-6)


def heard(encoder: Encoder, frames: int, context: int) -> torch.Tensor:
    """Which frames (columns) are heard at which (rows), by changing each of them: (T, T) of bool."""
    x, columns = torch.randn(1, frames, 8), []
    before = encoded(encoder, x, [frames], context)[0]
    for changed in range(frames):
        other = x.clone()
        other[0, changed] = torch.randn(8)
        columns.append((encoded(encoder, other, [frames], context)[0] - before).abs().amax(1) > 1e-6)
    return torch.stack(columns, 1)


@pytest.mark.parametrize("length", [4, 5, 6, 7, LENGTH])
@pytest.mark.parametrize("windows", [2, 3.4])
def test_a_frame_knows_of_no_more_than_the_context_and_of_three_quarters_of_it_on_a_side(encoder, length, windows):
    """That a frame lies in the middle half of what it knows means a quarter, to three quarters, on each side."""
    frames, quarter = round(windows * length), length // 4
    found = heard(encoder, frames, length)
    sides = []  # how many frames are heard before and after each
    for t, row in enumerate(found):
        known = row.nonzero().squeeze(1).tolist()
        assert known == list(range(known[0], known[-1] + 1)) and t in known and len(known) <= length
        sides.append((t - known[0], known[-1] - t))
    inner = [count for side in sides[quarter : frames - quarter] for count in side]
    assert quarter <= min(inner) and 3 * length / 4 - 1.5 < max(inner) <= 3 * length / 4
    assert sides[0] == (0, length - 1) and sides[-1][1] == 0  # at the ends all but itself
    assert length / 2 <= sides[-1][0] <= length - 1  # the last window begins where a whole number of hops ends


@pytest.mark.parametrize("frames", [13, 40])
def test_without_windows_every_frame_is_heard_at_every_other(encoder, frames):
    assert heard(encoder, frames, 0).all()


def test_a_padded_batch_equals_each_utterance_alone(encoder):
    frames = [40, 31, 12, 7, 1]
    x = torch.randn(5, 40, 8)
    together = encoded(encoder, x, frames)
    for row, length in enumerate(frames):
        alone = encoded(encoder, x[row : row + 1, :length], [length])[0]
        assert torch.allclose(together[row, :length], alone, atol=1e-5)


def test_every_layer_is_heard_through_the_same_windows(encoder):
    x, lengths = torch.randn(2, 30, 8), torch.tensor([samples(30), samples(17)])
    with torch.no_grad():
        states, _ = encoder.hidden_states(x, lengths, context=LENGTH)
        for layer in (1, 2):
            assert torch.equal(states[layer], encoder(x, lengths, layer=layer, context=LENGTH)[0])


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 12, 50])
def test_windows_give_back_what_they_were_cut_from(length):
    frames = torch.tensor([1, 2, 3, 7, 24, 25, 26])
    x = torch.randn(7, 26, 3)
    windows = Windows(frames, 26, length)
    joined = windows.join(windows.cut(x))
    for row, count in enumerate(frames.tolist()):
        assert torch.equal(joined[row, :count], x[row, :count])
