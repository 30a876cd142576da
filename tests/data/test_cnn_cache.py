"""Frames in files: what was written comes back, and nothing that was damaged on the way."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from flea_fairseq.data.cnn_cache import has_frames, read_frames, write_frames

FRAMES = torch.arange(60, dtype=torch.float32).view(12, 5)


def damaged_byte(path):
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)


def half_a_file(path):
    path.write_bytes(path.read_bytes()[:-80])


def another_shape(path):
    write_frames(path, FRAMES[:11].clone())


def another_format(path):
    torch.save(FRAMES, path)


def no_checksum(path):
    save_file({"frames": FRAMES}, path)


def another_name(path):
    write_frames(path, FRAMES)
    save_file({"other": FRAMES}, path, metadata={"sha256": "0"})


def test_frames_come_back_in_a_format_that_others_read(tmp_path):
    path = tmp_path / "folder" / "a.safetensors"
    assert not has_frames(path, (12, 5))
    write_frames(path, FRAMES)
    assert has_frames(path, (12, 5)) and torch.equal(read_frames(path), FRAMES)
    assert torch.equal(load_file(path)["frames"], FRAMES)
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    "damage", [damaged_byte, half_a_file, another_shape, another_format, no_checksum, another_name]
)
def test_a_damaged_file_is_named_and_not_used(tmp_path, caplog, damage):
    path = tmp_path / "a.safetensors"
    write_frames(path, FRAMES)
    damage(path)
    assert not has_frames(path, (12, 5))
    assert len(caplog.records) == 1 and str(path) in caplog.text and "made again" in caplog.text
    write_frames(path, FRAMES)
    assert has_frames(path, (12, 5))
