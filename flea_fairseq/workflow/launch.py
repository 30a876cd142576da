"""Starting the processes of one training: how many, by what, and how much of an update each of them takes."""

import os
import sys
from dataclasses import dataclass
from typing import Any

from flea_fairseq.errors import ExperimentError

HYDRA_TRAIN = "fairseq_cli.hydra_train"
WAYS = ("local", "torchrun", "srun")
RANKS = {"torchrun": ("RANK", "LOCAL_RANK"), "srun": ("SLURM_PROCID", "SLURM_LOCALID")}  # each process's own numbers
MEET = {"torchrun": "env://", "srun": "tcp://${oc.env:MASTER_ADDR}:${oc.env:MASTER_PORT}"}
LOGGING = (  # to the standard output: several processes must not write one file
    "hydra/job_logging=stdout", "hydra.output_subdir=null",
    "hydra.job_logging.formatters.simple.format='[%(asctime)s][%(name)s][%(levelname)s] - %(message)s'",
)  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """processes: of the whole training, one a GPU; way: what starts them, one of WAYS. srun's processes meet where
    MASTER_ADDR and MASTER_PORT of the environment say."""

    processes: int = 1
    way: str = "local"

    @property
    def is_distributed(self) -> bool:
        return self.processes > 1 or self.way != "local"


ALONE = Launch()


def launch_command(launch: Launch) -> list[str]:
    """The words in front of `fairseq-hydra-train`'s own arguments. Raises ExperimentError."""
    if launch.way == "local":
        return [sys.executable, "-m", HYDRA_TRAIN]
    if launch.way == "torchrun":
        many = ["--standalone", f"--nproc-per-node={launch.processes}"]
        return [sys.executable, "-m", "torch.distributed.run", *many, "-m", HYDRA_TRAIN]
    if launch.way == "srun":
        return ["srun", f"--ntasks={launch.processes}", "--kill-on-bad-exit=1", sys.executable, "-m", HYDRA_TRAIN]
    raise ExperimentError(f"launch: {launch.way!r}, expected one of {', '.join(WAYS)}")


def launch_settings(launch: Launch) -> list[str]:
    """hydra's overrides by which fairseq finds the other processes; none for one process alone.

    They say what examples/config/run says to fairseq-hydra-train. Raises ExperimentError where fairseq cannot start so
    many in this way.
    """
    if not launch.is_distributed:
        return []
    import torch  # seconds: only where it is asked for

    gpus = torch.cuda.device_count()
    if launch.way == "local" and launch.processes > gpus:
        raise ExperimentError(
            f"{launch.processes} processes, but fairseq starts one for each GPU and this machine has {gpus}; "
            "give --launch torchrun, which starts them on CPUs as well"
        )
    if launch.way == "srun" and not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        raise ExperimentError(
            "srun's processes meet at MASTER_ADDR and MASTER_PORT, which are not set; examples/slurm/train.sbatch sets "
            "them"
        )
    values: dict[str, object] = {"distributed_world_size": launch.processes}
    if launch.way in RANKS:
        rank, device = (f"${{oc.env:{name}}}" for name in RANKS[launch.way])
        values |= {"distributed_init_method": f"'{MEET[launch.way]}'", "distributed_rank": rank, "device_id": device}
        values |= {"distributed_no_spawn": "true", "ddp_backend": "legacy_ddp"}
    if not gpus:
        values["distributed_backend"] = "gloo"
    settings = [f"distributed_training.{name}={value}" for name, value in values.items()]
    return [*(LOGGING if launch.way in RANKS else ()), *settings]


def share(values: dict[str, Any], processes: int) -> dict[str, Any]:
    """What each of several processes takes, so that an update sees as much as with one process.

    values: a config under dotted keys, written for one process. Returns the keys that change. Utterances
    (`batch_size`) are divided exactly; audio (`max_tokens`, 16 kHz samples) by fewer micro-batches an update
    (`update_freq`) first, then by smaller ones. Raises ExperimentError where that cannot be done.
    """
    if processes == 1:
        return {}
    micro, tokens = values["optimization.update_freq"][0], values.get("dataset.max_tokens")
    if utterances := values.get("dataset.batch_size"):
        if utterances * micro % processes:
            possible = [str(n) for n in range(1, utterances * micro + 1) if utterances * micro % n == 0]
            raise ExperimentError(
                f"{utterances * micro} utterances an update cannot be divided among {processes} processes; "
                f"take one of {', '.join(possible)}"
            )
        each = utterances * micro // processes
        freq = next(freq for freq in range(-(-each // utterances), each + 1) if each % freq == 0)
        return {"dataset.batch_size": each // freq, "optimization.update_freq": [freq]}
    freq = -(-micro // processes)
    shared_tokens = tokens * micro // (processes * freq)
    if shared_tokens < (longest := longest_samples(values)):
        raise ExperimentError(
            f"{processes} processes would take {shared_tokens} samples each, fewer than one utterance's {longest}; "
            f"take {tokens * micro // longest} at most"
        )
    return {"dataset.max_tokens": shared_tokens, "optimization.update_freq": [freq]}


def longest_samples(values: dict[str, Any]) -> int:
    """Samples that a micro-batch must hold: the longest crop. 1 where crops have no limit."""
    return values.get("task.max_sample_size") or 1


def describe(values: dict[str, Any], shared: dict[str, Any], processes: int) -> str:
    """One line: how much audio an update takes, and how it is divided."""
    now = {**values, **shared}
    freq = now["optimization.update_freq"][0]
    if now.get("dataset.batch_size"):
        each, unit = now["dataset.batch_size"], "utterances"
    else:
        each, unit = now["dataset.max_tokens"] / 16000, "s of audio"
    return f"an update: {processes} x {freq} x {each:g} {unit} = {processes * freq * each:g} {unit}"
