"""One training: fairseq's own command in a process of its own, with a progress bar, resumed where it stopped."""

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flea_fairseq.data.files import check_whole, holding, replacing, sha256, write_text
from flea_fairseq.errors import ExperimentError
from flea_fairseq.models.fingerprint import fingerprint
from flea_fairseq.workflow.classifier_config import check_classifier
from flea_fairseq.workflow.fairseq_run import run_fairseq
from flea_fairseq.workflow.launch import ALONE, Launch, describe, launch_command, launch_settings, share
from flea_fairseq.workflow.limits import (
    Progress,
    StoppedForTime,
    is_over,
    read_progress,
    seconds_left,
    seconds_to_train,
    time_limits,
    unfinished,
)
from flea_fairseq.workflow.provenance import model_facts
from flea_fairseq.workflow.settings import override
from flea_fairseq.workflow.training_config import merged, write_config

FINISHED = "finished.json"  # in the run's folder: of which inputs the model was made
CONFIG = "config"  # there, too: a folder with the one file that hydra reads
KEPT = "model.pt"  # there, too: the model, which a scheduler that ends a job late would take away
USER_DIR = Path(__file__).resolve().parents[1]


def train(
    config_dir: Path,
    config: str,
    data: Path,
    output: Path,
    run_dir: Path,
    init: Path | None = None,
    labels: Path | None = None,
    label_sets: Sequence[str] = ("km",),
    system: str | None = None,
    settings: Sequence[str] = (),
    cnn_cache: Path | None = None,
    launch: Launch = ALONE,
    time_limit: float | None = None,
    margin: float | None = None,
) -> Path:
    """Run `fairseq-hydra-train` and write the model, without its optimiser, to `output`.

    config_dir, config: the base config, such as examples/config and finetune; system: `system/<name>.yaml` there, put
    over it; data: the fold's folder; labels: the folder of the frame labels, label_sets: which of them, such as km50;
    init: the checkpoint to start from; settings: `key=value`, the value as YAML; cnn_cache: a folder for the frozen
    CNN's output, which changes no result. `run_dir` holds fairseq's checkpoints until the model is written, its config
    and its log: a run with the same inputs goes on from there, one with others starts anew. The model is the best by
    the config's metric where there is one, else the last.

    launch: the processes, among which an update is divided, so that it holds as much as with one. time_limit: seconds
    after which fairseq has to have saved and stopped, `margin` of them for starting and saving (None: what is left of
    the Slurm job that this runs in).
    Raises ExperimentError with the last lines of the log if fairseq fails; StoppedForTime where updates are left.
    """
    values = merged(config_dir, config, system, settings)
    check_classifier(system or config, values, labels is not None)
    own: dict[str, Any] = {"task.data": data.resolve(), "checkpoint.save_dir": run_dir.resolve()}
    files = [config_dir / f"{config}.yaml", *([config_dir / "system" / f"{system}.yaml"] if system else [])]
    files += [path for pattern in ("[!.]*.tsv", "[!.]*.emo", "dict.*.txt") for path in sorted(data.glob(pattern))]
    if labels is not None:
        own |= {"task.label_dir": labels.resolve(), "task.labels": list(label_sets)}
        files += [labels / name for of in label_sets for name in (f"dict.{of}.txt", f"ssl.{of}")]
        for name in label_sets:
            check_whole(labels / f"ssl.{name}")
    if init is not None:
        own["model.init_checkpoint"] = init.resolve()
    inputs = _inputs(files, init, [*settings, *(override(key, value) for key, value in own.items())])
    if _is_finished(run_dir, inputs, output):
        print(f"{output}: made of the same inputs before; kept")
        return output
    shared = share(values, launch.processes)
    own |= {"task.cnn_cache": cnn_cache.resolve()} if cnn_cache is not None else {}
    whole = {**values, **own, **shared, "common.user_dir": USER_DIR}
    words = launch_command(launch), launch_settings(launch)
    left = seconds_left() if time_limit is None else time_limit
    deadline = None if left is None else time.monotonic() + seconds_to_train(left, margin)
    busy = f"{run_dir}: another training is at work there; wait until it ends, or name another --run-dir"
    with holding(run_dir.resolve().with_name(f".{run_dir.name}.lock"), busy) as lock:
        _keep_or_clear(run_dir, inputs, launch.processes)
        print(describe(values, shared, launch.processes))
        _train_to_end(words, whole, run_dir, deadline, lock)
        _finish(run_dir, inputs, output, data, values)
    return output


def _train_to_end(
    words: tuple[list[str], list[str]], values: dict[str, Any], run_dir: Path, deadline: float | None, lock: int
) -> None:
    """Run fairseq until it is done, if it is not: anew after a trial that told its speed. Raises StoppedForTime at the
    deadline.

    words: those before and after hydra's config; values: the whole config.
    """
    before, after = words
    progress = _progress(run_dir)
    while progress is None or not is_over(progress, values):
        to_train = None if deadline is None else max(1.0, deadline - time.monotonic())
        limits = time_limits(progress, values, to_train)
        config = write_config(run_dir / CONFIG, {**values, **limits})
        try:
            run_fairseq([*before, *config, *after], run_dir, values, lock)
        finally:
            _remove(run_dir, "*.pt.tmp")  # what fairseq was writing
        progress = _progress(run_dir)
        if progress is None:
            raise ExperimentError(
                f"{run_dir}: the training ended without a checkpoint; let checkpoint.save_interval or "
                "save_interval_updates be smaller"
            )
        stopped = unfinished(progress, values, limits)
        if not stopped:
            return
        if deadline is not None and time.monotonic() > deadline - 1:
            raise StoppedForTime(f"{run_dir}: stopped for time at {stopped}; the same command goes on from there")


def _inputs(files: Sequence[Path], init: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """Everything that the result depends on, by content. Raises ExperimentError for a file that is not there."""
    for path in files:
        if not path.is_file():
            raise ExperimentError(
                f"{path}: no such config or labels; configs are named without .yaml, labels come from flea label"
            )
    hashes = {str(path): sha256(path) for path in files}
    return {"settings": list(overrides), "files": hashes, "init": fingerprint(init) if init else None}


def _is_finished(run_dir: Path, inputs: dict[str, Any], output: Path) -> bool:
    """Whether these inputs gave a model before: `output`, or the one that the run's folder kept, which is put there.

    A step that runs again because a file is newer, or because its job was ended after the model was written, which
    Snakemake then removes, costs nothing.
    """
    record, kept = run_dir / FINISHED, run_dir / KEPT
    made = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    if made.get("inputs") != inputs:
        return False
    if output.exists() and sha256(output) == made["model"]:
        return True
    if not kept.exists() or sha256(kept) != made["model"]:
        return False
    _link(kept, output)
    return True


def _link(source: Path, output: Path) -> None:
    """The same file under another name, or a copy where the file system has no links."""
    with replacing(output) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def _keep_or_clear(run_dir: Path, inputs: dict[str, Any], processes: int) -> None:
    """Keep checkpoints of the same inputs; checkpoints of others would be resumed from, and must not be.

    Raises ExperimentError for a folder that holds something else: only what a training wrote is ever removed; and for
    one that other processes began: fairseq would go on at another place of the epoch.
    """
    record = run_dir / "inputs.json"
    if run_dir.exists() and any(run_dir.iterdir()) and not record.exists():
        raise ExperimentError(f"{run_dir}: holds files that are no training's; name a new or empty folder as --run-dir")
    before = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    begun = before.pop("processes", processes)
    if before == inputs and begun != processes and (run_dir / "checkpoint_last.pt").exists():
        raise ExperimentError(
            f"{run_dir}: was begun with --processes {begun}, and can only go on with as many; name another --run-dir "
            "to begin anew"
        )
    if before and before != inputs:
        _remove_checkpoints(run_dir)
        (run_dir / "train.log").unlink(missing_ok=True)
        shutil.rmtree(run_dir / ".hydra", ignore_errors=True)  # inputs.json is replaced below
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(record, json.dumps({**inputs, "processes": processes}, indent=1) + "\n")


def _finish(run_dir: Path, inputs: dict[str, Any], output: Path, data: Path, values: dict[str, Any]) -> None:
    """Write the model of a training that is done; a classifier calibrated on the validation part."""
    from flea_fairseq.evaluation.calibrate import find_calibration  # torch and fairseq: seconds
    from flea_fairseq.models.checkpoints import write_model

    best, last = run_dir / "checkpoint_best.pt", run_dir / "checkpoint_last.pt"
    chosen, kept = best if best.exists() else last, run_dir / KEPT
    facts = model_facts(data, values["common.seed"])
    if values["model._name"] == "flea_classifier" and (data / "valid.emo").exists():
        facts |= find_calibration(chosen, data / "valid.tsv")
        print(f"temperature {facts['temperature']:.3f}, from the validation part")
    write_model(chosen, kept, facts)
    write_text(run_dir / FINISHED, json.dumps({"inputs": inputs, "model": sha256(kept)}, indent=1) + "\n")
    _link(kept, output)
    _remove_checkpoints(run_dir)  # with the optimiser's state they are six times the model


def _progress(run_dir: Path) -> Progress | None:
    """How far the last checkpoint is, None without any."""
    last = run_dir / "checkpoint_last.pt"
    if not last.exists():
        return None
    from flea_fairseq.models.checkpoints import load_tensors  # torch and fairseq: seconds
    from flea_fairseq.models.repair import repair_last

    repair_last(run_dir)
    return read_progress(load_tensors(last)) if last.exists() else None


def _remove_checkpoints(run_dir: Path) -> None:
    _remove(run_dir, "checkpoint*.pt", "crash.pt", "*.pt.tmp")


def _remove(run_dir: Path, *patterns: str) -> None:
    for path in [path for pattern in patterns for path in run_dir.glob(pattern)]:
        path.unlink()
