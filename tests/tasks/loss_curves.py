"""One training's loss by update, for comparing one process with several."""

from pathlib import Path

from fairseq_runs import FINETUNE, ROOT, TINY

from flea_fairseq.evaluation.curves import json_part
from flea_fairseq.workflow.launch import ALONE, Launch
from flea_fairseq.workflow.train import train

UPDATES = 20
QUIET = [  # nothing drawn from torch's generator, which fairseq seeds alike in every process
    "model.dropout=0.0", "model.attention_dropout=0.0", "model.activation_dropout=0.0", "model.encoder_layerdrop=0.0",
    "model.dropout_input=0.0",
]  # fmt: skip
PRETRAIN = [
    *TINY, *QUIET, "model.dropout_features=0.0", f"optimization.max_update={UPDATES}", "lr_scheduler.warmup_updates=3",
    "model.mask_length=4", "optimization.update_freq=[2]", "dataset.max_tokens=60000", "dataset.num_workers=0",
    "task.max_sample_size=12000", "model.feature_grad_mult=1.0", "common.log_interval=1",
]  # fmt: skip


def pretrain(fold: Path, folder: Path, launch: Launch = ALONE) -> Path:
    """Masked prediction in `folder`; returns the model."""
    return train(ROOT / "examples/config", "pretrain", fold, folder / "model.pt", folder / "run", labels=fold,
                 label_sets=["km50"], settings=PRETRAIN, launch=launch)  # fmt: skip


def finetune(fold: Path, folder: Path, init: Path, launch: Launch = ALONE) -> Path:
    """Fine-tuning in `folder`; returns the model."""
    settings = [*FINETUNE, *QUIET, "dataset.batch_size=2", "optimization.update_freq=[2]",
                "model.pooling_dropout=0.0", "model.mask_prob=0.3", "optimization.max_epoch=0",
                f"optimization.max_update={UPDATES}", "task.balance=false", "optimization.lr=[0.0001]"]  # fmt: skip
    return train(ROOT / "examples/config", "finetune", fold, folder / "model.pt", folder / "run", init=init,
                 settings=settings, launch=launch)  # fmt: skip


def losses(folder: Path) -> list[float]:
    """The loss of each update, in bits."""
    lines = (folder / "run/train.log").read_text().splitlines()
    rows = {
        int(v["num_updates"]): float(v["loss"])
        for line in lines
        if "num_updates" in (v := json_part(line)) and "loss" in v
    }
    return [rows[update] for update in sorted(rows)]
