"""One training: fairseq's own command in a process of its own, with a progress bar, resumed where it stopped."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from tqdm import tqdm

from flea_fairseq.data.files import sha256, write_text
from flea_fairseq.errors import ExperimentError
from flea_fairseq.evaluation.curves import json_part
from flea_fairseq.models.fingerprint import fingerprint
from flea_fairseq.workflow.settings import override

UPDATES = ("num_updates", "train_num_updates", "valid_num_updates")  # in fairseq's log lines
SHOWN = ("epoch", "loss", "accuracy_masked_0", "ua", "valid_ua")
OWN_WORDS = re.compile(r"\[flea_fairseq[\w.]*\]\[INFO\] - (.+)")  # what our code says in fairseq's log
FINISHED = "finished.json"  # in the run's folder: of which inputs the model was made
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
) -> Path:
    """Run `fairseq-hydra-train` and write the model, without its optimiser, to `output`.

    config_dir, config: the base config, such as examples/config and finetune; system: `system/<name>.yaml` there, put
    over it; data: the fold's folder; labels: the folder of the frame labels, label_sets: which of them, such as km50;
    init: the checkpoint to start from; settings: hydra overrides; cnn_cache: a folder for the frozen CNN's output,
    which changes no result. `run_dir` holds fairseq's checkpoints until the model is written, and its log: a run with
    the same inputs goes on from there, one with others starts anew. The model is the best by the config's metric where
    there is one, else the last.
    Raises ExperimentError with the last lines of the log if fairseq fails.
    """
    overrides = [*([f"+system={system}"] if system else []), *settings]
    overrides += [override("task.data", data.resolve()), override("checkpoint.save_dir", run_dir.resolve())]
    files = [config_dir / f"{config}.yaml", *([config_dir / "system" / f"{system}.yaml"] if system else [])]
    files += [path for pattern in ("*.tsv", "*.emo", "dict.*.txt") for path in sorted(data.glob(pattern))]
    if labels is not None:
        overrides += [override("task.label_dir", labels.resolve()), override("task.labels", list(label_sets))]
        files += [labels / name for of in label_sets for name in (f"dict.{of}.txt", f"ssl.{of}")]
    if init is not None:
        overrides.append(override("model.init_checkpoint", init.resolve()))
    inputs = _inputs(files, init, overrides)
    if _is_finished(run_dir, inputs, output):
        print(f"{output}: made of the same inputs before; kept")
        return output
    _keep_or_clear(run_dir, inputs)
    command = [sys.executable, "-m", "fairseq_cli.hydra_train", "--config-dir", str(config_dir.resolve()),
               "--config-name", config, override("common.user_dir", USER_DIR), *overrides]  # fmt: skip
    cache = [override("task.cnn_cache", cnn_cache.resolve())] if cnn_cache is not None else []
    _run([*command, *cache], run_dir)
    best, last = run_dir / "checkpoint_best.pt", run_dir / "checkpoint_last.pt"
    if not last.exists():
        raise ExperimentError(
            f"{run_dir}: the training ended without a checkpoint; let checkpoint.save_interval or "
            "save_interval_updates be smaller"
        )
    from flea_fairseq.models.checkpoints import strip_training_state  # torch and fairseq: not before they are needed

    strip_training_state(best if best.exists() else last, output)
    write_text(run_dir / FINISHED, json.dumps({"inputs": inputs, "model": sha256(output)}, indent=1) + "\n")
    _remove_checkpoints(run_dir)  # with the optimiser's state they are six times the model
    return output


def _inputs(files: Sequence[Path], init: Path | None, overrides: Sequence[str]) -> dict:
    """Everything that the result depends on, by content. Raises ExperimentError for a file that is not there."""
    for path in files:
        if not path.is_file():
            raise ExperimentError(
                f"{path}: no such config or labels; configs are named without .yaml, labels come from flea label"
            )
    hashes = {str(path): sha256(path) for path in files}
    return {"settings": list(overrides), "files": hashes, "init": fingerprint(init) if init else None}


def _is_finished(run_dir: Path, inputs: dict, output: Path) -> bool:
    """Whether `output` is what these inputs gave: a step that runs again because a file is newer costs nothing."""
    record = run_dir / FINISHED
    if not (record.exists() and output.exists()):
        return False
    return json.loads(record.read_text(encoding="utf-8")) == {"inputs": inputs, "model": sha256(output)}


def _keep_or_clear(run_dir: Path, inputs: dict) -> None:
    """Keep checkpoints of the same inputs; checkpoints of others would be resumed from, and must not be.

    Raises ExperimentError for a folder that holds something else: only what a training wrote is ever removed.
    """
    record = run_dir / "inputs.json"
    if run_dir.exists() and any(run_dir.iterdir()) and not record.exists():
        raise ExperimentError(f"{run_dir}: holds files that are no training's; name a new or empty folder as --run-dir")
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) != inputs:
        _remove_checkpoints(run_dir)
        (run_dir / "train.log").unlink(missing_ok=True)
        shutil.rmtree(run_dir / ".hydra", ignore_errors=True)  # inputs.json is replaced below
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(record, json.dumps(inputs, indent=1) + "\n")


def _remove_checkpoints(run_dir: Path) -> None:
    for path in [*run_dir.glob("checkpoint*.pt"), *run_dir.glob("crash.pt")]:
        path.unlink()


def _run(command: Sequence[str], run_dir: Path) -> None:
    log = run_dir / "train.log"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            with open(log, "a", encoding="utf-8") as file:
                _follow(_copy(process.stdout, file), run_dir)
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise ExperimentError(f"{log}: fairseq ended with status {process.returncode}: {_reason(log)}")


def _copy(lines: Iterable[str], file) -> Iterable[str]:
    for line in lines:
        file.write(line)
        file.flush()
        yield line


def _follow(lines: Iterable[str], run_dir: Path) -> None:
    """Show fairseq's JSON log lines as a progress bar over updates, and above it what our own code says."""
    with tqdm(desc=run_dir.parent.name, unit="update", mininterval=1) as bar:
        shown: dict[str, str] = {}
        for line in lines:
            if said := OWN_WORDS.search(line):
                bar.write(said[1], file=sys.stderr)
            values = json_part(line)
            if any(key in values for key in UPDATES):
                if bar.total is None:
                    bar.total = _total(run_dir)
                done = next(int(values[key]) for key in UPDATES if key in values)
                shown.update({key: values[key] for key in SHOWN if key in values})
                bar.set_postfix(shown, refresh=False)
                bar.update(done - bar.n)


def _total(run_dir: Path) -> int | None:
    """Updates in all: what the config says, or epochs times the updates of one, which fairseq logs when it starts."""
    path = run_dir / ".hydra/config.yaml"
    optimization = yaml.safe_load(path.read_text(encoding="utf-8"))["optimization"] if path.exists() else {}
    if optimization.get("max_update"):
        return optimization["max_update"]
    found = re.findall(r"grouped total_num_itrs = (\d+)", (run_dir / "train.log").read_text(errors="replace"))
    return int(found[-1]) * optimization["max_epoch"] if found and optimization.get("max_epoch") else None


def _reason(log: Path) -> str:
    """The exception's own line, or else the last lines, in one."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line]
    errors = [line for line in lines[-60:] if re.match(r"[\w.]+(Error|Exception|Interrupt): ", line)]
    return errors[-1][:1000] if errors else "; ".join(lines[-4:])[-1000:] or "no output"
