"""Half-written checkpoints: found and replaced before fairseq resumes from them."""

import logging
import zipfile
from pathlib import Path

import torch

from flea_fairseq.data.files import replacing

logger = logging.getLogger(__name__)


def repair_last(save_dir: str | Path) -> None:
    """Make sure that fairseq resumes from a whole file.

    fairseq writes `checkpoint_last.pt` as a plain copy, so a process killed in that moment leaves half of it. The
    newest whole checkpoint takes its place; where there is none, training starts anew. Both are named in the log.
    """
    distributed = torch.distributed.is_initialized()
    if not distributed or torch.distributed.get_rank() == 0:  # the process that reads and shares the checkpoint
        _repair_last(Path(save_dir) / "checkpoint_last.pt")
    if distributed:
        torch.distributed.barrier()


def _repair_last(last: Path) -> None:
    if not last.exists() or is_whole(last):
        return
    others = sorted(set(last.parent.glob("checkpoint*.pt")) - {last}, key=lambda p: p.stat().st_mtime, reverse=True)
    whole = next((path for path in others if is_whole(path)), None)
    if whole is None:
        last.unlink()
        logger.warning("%s is half-written and there is no other checkpoint: training starts anew", last)
        return
    logger.warning("%s is half-written: resuming from %s", last, whole)
    with replacing(last) as temporary:
        temporary.write_bytes(whole.read_bytes())


def is_whole(path: Path) -> bool:
    """Whether a torch file is complete: its zip directory is there and every member has its checksum.

    It has to begin at byte 0: fairseq, which tries to save three times, writes the next one behind what the full disk
    took of the first, and torch cannot read that.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            begin = min((member.header_offset for member in archive.infolist()), default=0)
            return begin == 0 and archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False
