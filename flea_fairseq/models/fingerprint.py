"""Which weights these are: without torch, so that a step whose inputs did not change can say so at once."""

from pathlib import Path

from flea_fairseq.data.files import sha256
from flea_fairseq.errors import CheckpointError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a checkpoint file, or of the weights file in a Hugging Face folder."""
    path = Path(path)
    return sha256(weights_file(path) if path.is_dir() else path)


def weights_file(folder: Path) -> Path:
    """The weights in a Hugging Face folder. Raises CheckpointError if there are none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"{folder}: a Hugging Face folder needs {' or '.join(WEIGHTS)}")
