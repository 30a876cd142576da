"""The output of frozen convolutions, computed once an utterance and kept in files (`task.cnn_cache`)."""

import copy
import hashlib
import json
import logging
import random
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from flea_fairseq.data.audio import check_samples
from flea_fairseq.data.cnn_cache import has_frames, write_frames
from flea_fairseq.data.files import sha256
from flea_fairseq.errors import ExperimentError
from flea_fairseq.models.device import best_device, on_best_device
from flea_fairseq.models.encoder import Encoder

logger = logging.getLogger(__name__)
LAYOUT = 1  # of the files; part of their key
BLOCK = 4096  # bytes that a file's header and its last block take at most
NO_CACHE = "or task.cnn_cache= (nothing)"


class FrozenCnn:
    """A copy of an encoder's convolutions, in float32 whatever precision the model is trained in, and their files.

    `folder/<key of weights, shape and normalize>/<SHA-256 of the audio file>-<samples used>.safetensors`: trainings
    whose convolutions are the same share a folder, also at the same time.
    Raises ExperimentError for convolutions that are trained.
    """

    def __init__(self, encoder: Encoder, folder: str | Path) -> None:
        if any(parameter.requires_grad for parameter in encoder.feature_extractor.parameters()):
            raise ExperimentError(
                "task.cnn_cache keeps the output of frozen convolutions, but model.freeze_cnn=false trains them; "
                f"set model.freeze_cnn=true, {NO_CACHE}"
            )
        self.cnn = on_best_device(copy.deepcopy(encoder.feature_extractor).float())
        self.folder = Path(folder) / cnn_key(encoder)
        self.channels = encoder.config.conv_layers[-1][0]
        self._frame_lengths = encoder.frame_lengths

    def fill(
        self, split: str, paths: Sequence[Path], samples: Sequence[int], waveform: Callable[[int], Tensor]
    ) -> list[Path]:
        """The files of a split's utterances; those that are missing or damaged are made.

        paths: the recordings; samples: how many of each are used; waveform: the i-th as the encoder hears it. The
        order is another in every process, so that those that fill the same folder at once divide the work.
        Raises ExperimentError where the disk is too small, AudioError for a recording unlike its manifest.
        """
        frames = self._frame_lengths(torch.as_tensor(samples)).tolist()
        recordings = tqdm(paths, desc=f"hash {split}", unit="file", disable=None)
        files = [self.folder / f"{sha256(path)}-{count}.safetensors" for path, count in zip(recordings, samples)]
        self._announce(split, dict(zip(files, frames)))
        order = random.SystemRandom().sample(range(len(files)), len(files))
        for i in tqdm(order, desc=f"CNN of {split}", unit="utterance", disable=None):
            if not has_frames(files[i], (frames[i], self.channels)):
                write_frames(files[i], self._frames(paths[i], samples[i], waveform(i)))
        return files

    @torch.no_grad()
    def _frames(self, path: Path, samples: int, waveform: Tensor) -> Tensor:
        """(samples,) -> (T, C) float32."""
        check_samples(path, len(waveform), samples)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self.cnn(waveform[None].to(best_device()))[0].T.contiguous().cpu()

    def _announce(self, split: str, frames: dict[Path, int]) -> None:
        """Say what is missing and what it takes. Raises ExperimentError where there is no room for it."""
        missing = [count for file, count in frames.items() if not file.exists()]
        total, needed = self._bytes(frames.values()), self._bytes(missing)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise ExperimentError(f"task.cnn_cache: no folder can be made there ({error}); name another") from None
        logger.info(
            "CNN output of %s in %s: %d utterances take %s; %d are to be computed, %s; %s are free",
            split, self.folder, len(frames), _size(total), len(missing), _size(needed), _size(free),
        )  # fmt: skip
        if needed > free:
            raise ExperimentError(
                f"{self.folder}: {split} needs {_size(needed)} more, but {_size(free)} are free; "
                f"make room, set task.cnn_cache to a folder on a larger disk, {NO_CACHE}"
            )

    def _bytes(self, frames: Iterable[int]) -> int:
        return sum(4 * self.channels * count + BLOCK for count in frames)


def cnn_key(encoder: Encoder) -> str:
    """16 hexadecimal digits that stand for all that a CNN's output depends on, but for the audio."""
    config = encoder.config
    shape = [LAYOUT, config.conv_layers, config.extractor_mode, config.conv_bias, config.normalize, "float32"]
    digest = hashlib.sha256(json.dumps(shape).encode())
    for name, value in sorted(encoder.feature_extractor.state_dict().items()):
        digest.update(name.encode() + value.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _size(count: int) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if count >= 2**power:
            return f"{count / 2**power:.1f} {unit}"
    return f"{count / 2**10:.1f} KiB"
