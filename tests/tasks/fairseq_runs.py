"""Starting fairseq's own commands on tiny models, as a user would."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from omegaconf import OmegaConf
from support import TINY_CONV

from flea_fairseq.models.checkpoints import load_tensors

try:
    from hydra import compose, initialize_config_dir
except ImportError:  # hydra 1.0
    from hydra.experimental import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "examples/config"
TINY = [
    "model.encoder_layers=2", "model.encoder_embed_dim=32", "model.encoder_ffn_embed_dim=64",
    "model.encoder_attention_heads=4", f"model.conv_feature_layers='{TINY_CONV}'",
]  # fmt: skip
PRETRAIN = [
    *TINY, "task.labels=[km50]", "optimization.max_update=20", "lr_scheduler.warmup_updates=3", "model.mask_length=4",
    "optimization.update_freq=[2]", "dataset.max_tokens=60000", "dataset.num_workers=0", "task.max_sample_size=12000",
    "checkpoint.save_interval_updates=2", "model.feature_grad_mult=1.0", "common.log_interval=1",
]  # fmt: skip
FINETUNE = [
    "optimization.max_epoch=8", "dataset.batch_size=4", "dataset.num_workers=0", "task.crop=random",
    "task.max_seconds=0.6", "checkpoint.save_interval_updates=2", "common.log_interval=1", "optimization.lr=[0.001]",
    "model.encoder_layerdrop=0.3",
]  # fmt: skip
TWO_PROCESSES = [
    "distributed_training.distributed_world_size=2", "distributed_training.distributed_no_spawn=true",
    "distributed_training.distributed_backend=gloo", "distributed_training.ddp_backend=legacy_ddp",
]  # fmt: skip


def start(config: str, data: Path, run_dir: Path, overrides: list[str], user_dir: bool = True) -> subprocess.Popen:
    """`fairseq-hydra-train` in a process of its own, its output in run_dir/out.log."""
    run_dir.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "fairseq_cli.hydra_train", "--config-dir", str(CONFIG),
        "--config-name", config, f"task.data={data}", f"checkpoint.save_dir={run_dir}", *overrides,
        f"common.user_dir={ROOT / 'flea_fairseq' if user_dir else 'null'}",
    ]  # fmt: skip
    with open(run_dir / "out.log", "a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def start_two(config: str, data: Path, run_dir: Path, overrides: list[str]) -> list[subprocess.Popen]:
    """Both processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        method = f"distributed_training.distributed_init_method='tcp://127.0.0.1:{free.getsockname()[1]}'"
    overrides = [*overrides, *TWO_PROCESSES, method]
    return [
        start(config, data, run_dir, [*overrides, f"distributed_training.distributed_rank={rank}"]) for rank in range(2)
    ]


def finish(*processes: subprocess.Popen) -> None:
    """Wait for all; on a failure show the end of the log."""
    for process in processes:
        status = process.wait(timeout=300)
        log = Path(next(a for a in process.args if a.startswith("checkpoint.save_dir=")).split("=", 1)[1]) / "out.log"
        assert status == 0, log.read_text()[-3000:]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_tensors(path)["model"]


def assert_equal_weights(one: Path, other: Path) -> None:
    """Bit by bit: the model, and the optimiser where the file has one."""
    first, second = (
        {part: load_tensors(path).get(part) for part in ("model", "last_optimizer_state")} for path in (one, other)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)


def composed(config: str, *overrides: str) -> dict[str, object]:
    """The config that hydra makes, as {"section.key": value}."""
    with initialize_config_dir(config_dir=str(CONFIG)):
        return flat(OmegaConf.to_container(compose(config, overrides=list(overrides)), resolve=False))


def flat(tree: dict, prefix: str = "") -> dict[str, object]:
    """A nested dict as {"section.key": value}."""
    values = {}
    for key, value in tree.items():
        values.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return values


def tiny_pretraining(updates: int) -> list[str]:
    """Settings for `flea train` of one layer of 16 dimensions on km50."""
    return ["model.encoder_layers=1", "model.encoder_embed_dim=16", "model.encoder_ffn_embed_dim=16",
            "model.encoder_attention_heads=2", "model.conv_pos_groups=2", f"model.conv_feature_layers='{TINY_CONV}'",
            f"optimization.max_update={updates}", "lr_scheduler.warmup_updates=1",
            "optimization.update_freq=[1]", "dataset.max_tokens=60000", "dataset.num_workers=0"]  # fmt: skip
