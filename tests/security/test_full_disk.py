"""A full disk in every step that writes: one line that names the file, nothing half, and the same again with room."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from disks import PAGE, SmallDisk, small_disk
from fairseq_runs import assert_equal_weights, tiny_pretraining
from made_runs import make_run

from flea_fairseq.cli import flea
from flea_fairseq.data.corpus import Corpus, Utterance, write_corpus
from flea_fairseq.data.manifest import Manifest, write_dictionary, write_labels, write_manifest
from flea_fairseq.errors import FleaError, WriteError

ROOT = Path(__file__).resolve().parents[2]
TOLD = "No space left on device; free some space, and start the same command again"
LABELS = ("angry", "happy", "neutral", "sad") * 3
STEPS = {
    "folds": "folds {inputs}/corpus.tsv {out}/folds",
    "shard": "shard {inputs}/ssl.tsv {out}/shards --shards 3",
    "extract": "extract {inputs}/ssl.tsv {out}/features --checkpoint {inputs}/model.pt --layer 1",
    "kmeans": "kmeans {inputs}/features/mfcc ssl {out}/k.npz --clusters 8",
    "label": "label {inputs}/features/mfcc ssl {inputs}/ssl.tsv {inputs}/units/mfcc/km8.npz {out}/labels",
    "fit": "fit {inputs}/ssl.tsv {out}/fitted --mfcc --clusters 7 --clusters 8",
    "cluster": "cluster {inputs}/ssl.tsv {inputs}/test.tsv {out}/units --mfcc --clusters 8",
    "merge": "merge {inputs}/ssl.tsv {inputs}/parts {out}/merged --shards 2 --label-set mfcc/km8",
    "evaluate": "evaluate {inputs}/model.pt {inputs}/test.tsv {out}/predictions.tsv",
    "baseline": "baseline {inputs}/ssl.tsv {inputs}/test.tsv {out}/predictions.tsv",
    "score-units": "score-units {inputs}/ssl.tsv {inputs}/units/mfcc/ssl.km8 {inputs}/corpus.tsv {out}/units.json"
    " --clusters 8",
    "score-frames": "score-frames {inputs}/spans.rttm {inputs}/test.tsv {inputs}/ssl.tsv {inputs}/units/mfcc/test.km8"
    " {inputs}/units/mfcc/ssl.km8 {out}/frames.json --checkpoint {inputs}/model.pt",
    "project": "project {inputs}/test.tsv {inputs}/mean.pt {inputs}/model.pt {out}/projection.json --layer 1"
    " --frames 40",
    "explain": "explain {inputs}/test.tsv {inputs}/model.pt {inputs}/mean.tsv {inputs}/attention.tsv {out}/a.json",
    "calibrate": "calibrate {inputs}/model.pt {inputs}/test.tsv {out}/calibrated.pt",
    "report": "report {out}/run",
    **{
        f"predict {name}": "predict {inputs}/model.pt {inputs}/u0.wav --output {out}/said --format " + name
        for name in ("json", "csv", "textgrid", "rttm", "audacity")
    },
    "predict --plot": "predict {inputs}/model.pt {inputs}/u0.wav --output {out}/said --plot {out}/plots",
    **{
        f"export {to}": "export {inputs}/model.pt {out}/exported --to " + to + " --audio {inputs}/u0.wav"
        for to in ("hf", "onnx", "fairseq")
    },
}
APART = ("fit", "predict --plot")  # write files that do not belong together, each by itself
REFUSE = ("export",)  # to write over what is there
PROCESSES = ("kmeans", "calibrate", "predict --plot", "export hf", "export onnx")  # numpy, torch, matplotlib, ...


@pytest.fixture(scope="module")
def inputs(save_classifier, tmp_path_factory) -> Path:
    """What the steps read: twelve utterances of three speakers, two models, features, labels, predictions."""
    folder = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    names, lengths = [f"u{i}.wav" for i in range(len(LABELS))], [4800 + 320 * i for i in range(len(LABELS))]
    for i, (name, length) in enumerate(zip(names, lengths)):
        noise = 0.05 * (1 + i % 4) * random.standard_normal(length)
        soundfile.write(folder / name, noise, 16000, subtype="FLOAT")
    write_dictionary(folder / "dict.emo.txt", sorted(set(LABELS)))
    for split in ("ssl", "test"):
        write_manifest(folder / f"{split}.tsv", Manifest(folder, tuple(names), tuple(lengths)))
        write_labels(folder / f"{split}.emo", LABELS)
    rows = [(f"u{i}", names[i], lengths[i], "abc"[i // 4], f"s{i // 4}", LABELS[i]) for i in range(len(names))]
    write_corpus(folder / "corpus.tsv", Corpus(folder, tuple(Utterance(*row) for row in rows)))
    spans = [f"SPEAKER u{i} 1 0.05 0.2 <NA> <NA> {label} <NA> <NA>\n" for i, label in enumerate(LABELS)]
    (folder / "spans.rttm").write_text("".join(span for span in spans if "neutral" not in span))
    save_classifier(folder / "model.pt"), save_classifier(folder / "mean.pt", pooling="mean")
    given = {"inputs": folder, "out": folder}
    for line in (
        "extract {inputs}/ssl.tsv {out}/features --mfcc",
        "cluster {inputs}/ssl.tsv {inputs}/test.tsv {out}/units --mfcc --clusters 8",
        "shard {inputs}/ssl.tsv {out}/parts --shards 2",
        *(f"cluster {{out}}/parts/ssl_{i}_2.tsv {{out}}/parts/ssl_{i}_2 --mfcc --clusters 8 --fitted {{out}}/units"
          for i in range(2)),
        "evaluate {inputs}/mean.pt {inputs}/test.tsv {out}/mean.tsv",
        "evaluate {inputs}/model.pt {inputs}/test.tsv {out}/attention.tsv",
    ):  # fmt: skip
        done = CliRunner().invoke(flea, line.format(**given).split())
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def whole_disk(tmp_path_factory) -> Iterator[SmallDisk]:
    with small_disk(tmp_path_factory.mktemp("mounted") / "disk", 4096) as disk:
        yield disk


@pytest.fixture
def disk(whole_disk) -> Iterator[SmallDisk]:
    """4 MiB, empty."""
    yield whole_disk
    whole_disk.clear()


def words(step: str, inputs: Path, disk: SmallDisk) -> list[str]:
    return STEPS[step].format(inputs=inputs, out=disk.folder).split()


def prepared(step: str, disk: SmallDisk) -> dict:
    """What a step reads that lies where it writes."""
    if step == "report":
        make_run(disk.folder / "run", seeds=(1,))
    return disk.files()


def succeed(arguments: list[str]) -> None:
    done = CliRunner().invoke(flea, arguments)
    assert done.exit_code == 0, (done.output, done.exception)


def fail(arguments: list[str]) -> str:
    """The line that a failing step says."""
    done = CliRunner().invoke(flea, arguments)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), (done.output, done.exception)
    return the_error(done.stderr)


def the_error(said: str) -> str:
    """The one line of error among progress bars."""
    lines = [line for line in re.split(r"[\r\n]+", said) if line.strip()]
    assert "Traceback" not in said and [line.startswith("error: ") for line in lines].count(True) == 1, said
    assert lines[-1].startswith("error: "), said
    return lines[-1]


def contents(files: dict[str, tuple[int, bytes]]) -> dict[str, bytes]:
    return {name: content for name, (_, content) in files.items()}


def assert_nothing_half(step: str, before: dict, after: dict, whole: dict) -> None:
    """Files are as they were, the same inodes; where a step's files stand by themselves, some may be the new ones."""
    new = {name for name, file in after.items() if before.get(name) != file}
    assert before.keys() <= after.keys()
    assert not new if step not in APART else all(after[name][1] == whole.get(name) for name in new), new


def sweep(step: str, inputs: Path, disk: SmallDisk, every: bool) -> int:
    """Run a step with too little room, without and with its output of before; gives the number of failed runs.

    every: with each number of pages from none to all but one.
    """
    before = prepared(step, disk)
    free, arguments = disk.pages_free(), words(step, inputs, disk)
    succeed(arguments)
    whole, needed = disk.files(), free - disk.pages_free()
    largest = max(-(-len(content) // PAGE) for name, (_, content) in whole.items() if name not in before)
    failed = 0
    for earlier in (True, False):  # the first with what was just made
        if earlier and step.split()[0] in REFUSE:
            continue
        if not earlier:
            disk.clear()
            prepared(step, disk)
        most = largest if earlier else needed
        there = disk.files()
        for pages in range(most) if every else sorted({0, most // 2, most - 1}):
            disk.leave(pages)
            said = fail(arguments)
            disk.free()
            assert said.startswith(f"error: {disk.folder}") and said.endswith(f": cannot be written: {TOLD}"), said
            assert "/." not in said  # no temporary name
            assert_nothing_half(step, there, disk.files(), contents(whole))
            if step in APART and not earlier:
                disk.clear()
            failed += 1
        succeed(arguments)
        assert contents(disk.files()) == contents(whole)
    return failed


@pytest.mark.parametrize("step", STEPS)
def test_with_too_little_room_a_step_says_so_and_leaves_nothing_half(step, inputs, disk):
    assert sweep(step, inputs, disk, every=False) >= 2


@pytest.mark.long
@pytest.mark.parametrize("step", STEPS)
def test_with_every_number_of_pages(step, inputs, disk):
    print(f"{step}: {sweep(step, inputs, disk, every=True)} runs failed")


def python(*arguments: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.long
@pytest.mark.parametrize("step", PROCESSES)
def test_the_same_as_a_process_of_its_own(step, inputs, disk):
    free, arguments = disk.pages_free(), words(step, inputs, disk)
    succeed(arguments)
    needed = free - disk.pages_free()
    disk.clear()
    for pages in sorted({0, needed // 2, needed - 1}):
        disk.leave(pages)
        done = python("-m", "flea_fairseq", *arguments)
        assert done.returncode == 1 and TOLD in the_error(done.stderr)
        disk.clear()


def test_converted_audio_is_whole_or_not_there(disk, tmp_path):
    """libsndfile says nothing where the end of a FLAC file finds no room: every number of pages, as a process once."""
    from flea_fairseq.data.audio import write_audio

    noise = np.random.default_rng(0).integers(-9000, 9000, 16000).astype(np.int16)
    for suffix in ("flac", "wav"):
        path = disk.folder / f"one.{suffix}"
        write_audio(path, noise)
        whole = path.read_bytes()
        pages = -(-len(whole) // PAGE)
        assert pages > 6 and np.array_equal(soundfile.read(path, dtype="int16")[0], noise)
        disk.clear()
        for left in range(pages):
            disk.leave(left)
            with pytest.raises(WriteError, match=f"one.{suffix}: cannot be written: {TOLD}"):
                write_audio(path, noise)
            disk.free()
            assert not disk.files()
        disk.leave(pages)
        write_audio(path, noise)
        assert path.read_bytes() == whole
        disk.clear()
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", noise, 22050)
    (tmp_path / "table.csv").write_text("path,speaker,emotion\na.wav,ann,sad\nb.wav,bob,happy\n")
    arguments = (ROOT / "manifests/table.py", tmp_path / "table.csv", "--output", disk.folder / "corpus.tsv")
    disk.leave(pages)
    done = python(*arguments)
    assert done.returncode == 1 and the_error(done.stderr).endswith(f"audio/b.flac: cannot be written: {TOLD}")
    assert list(disk.files()) == ["audio/a.flac"]
    disk.free()
    assert python(*arguments).returncode == 0 and len(disk.files()) == 3


@pytest.mark.long
def test_a_demo_corpus_is_whole_or_not_there(disk):
    pytest.importorskip("espeakng_loader")
    disk.resize(20480)
    arguments = (ROOT / "examples/demo/make_corpus.py", disk.folder / "corpus", "--sentences", 1)
    free = disk.pages_free()
    assert python(*arguments).returncode == 0
    whole, needed = contents(disk.files()), free - disk.pages_free()
    disk.clear()
    for pages in (0, 1, needed // 3, needed - 1):
        disk.leave(pages)
        done = python(*arguments)
        assert done.returncode == 1
        assert the_error(done.stderr) == f"error: {disk.folder}/corpus: cannot be written: {TOLD}"
        assert not disk.files()
    disk.free()
    assert python(*arguments).returncode == 0 and contents(disk.files()) == whole


def test_what_a_format_needs_for_itself(inputs, disk, tmp_path, monkeypatch):
    """praatio writes into the folder of temporary files, and so does flea with what comes from standard input."""
    (disk.folder / "tmp").mkdir()
    disk.leave(0)
    monkeypatch.setattr(tempfile, "tempdir", str(disk.folder / "tmp"))
    said = fail(["predict", f"{inputs}/model.pt", f"{inputs}/u0.wav", "--format", "textgrid"])
    assert said == f"error: {disk.folder}/tmp/flea.TextGrid: cannot be written: {TOLD}"
    done = CliRunner().invoke(flea, ["predict", f"{inputs}/model.pt", "-"], input=(inputs / "u0.wav").read_bytes())
    assert the_error(done.stderr) == f"error: {disk.folder}/tmp/flea.stdin: cannot be written: {TOLD}"
    disk.free()
    assert not disk.files() and not list((disk.folder / "tmp").iterdir())


def test_printed_results_are_not_lost_in_silence():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "flea_fairseq", "plan", "examples/iemocap/table1.yaml", "--hours-of-audio", "7"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 1 and done.stderr == f"error: standard output: {TOLD}\n"


def test_frames_that_are_kept(disk):
    import torch

    from flea_fairseq.data.cnn_cache import has_frames, read_frames, write_frames

    frames, path = torch.randn(99, 32), disk.folder / "kept/a.safetensors"
    for pages in range(4):
        disk.leave(pages)
        with pytest.raises(WriteError, match=f"a.safetensors: cannot be written: {TOLD}"):
            write_frames(path, frames)
        assert not has_frames(path, (99, 32))
    disk.free()
    assert not disk.files()
    write_frames(path, frames)
    assert has_frames(path, (99, 32)) and torch.equal(read_frames(path), frames)


def training(data: Path, output: Path, *settings: str) -> list[str]:
    what = [ROOT / "examples/config", "pretrain", data, output / "model.pt", "--run-dir", output / "run"]
    return ["train", *map(str, what), "--labels", str(data), "--label-set", "km50", *tiny_pretraining(4), *settings]


def train_with_too_little_room(data: Path, disk: SmallDisk, sizes: Sequence[int]) -> None:
    """Each time one line and no half checkpoint under a temporary name; at last, with room, the run goes on."""
    for pages in sizes:
        disk.leave(pages)
        assert TOLD in fail(training(data, disk.folder))
        assert not [name for name in disk.files() if name.endswith((".tmp", "/model.pt"))]
    disk.free()
    succeed(training(data, disk.folder))


@pytest.fixture(scope="module")
def trained(fold_folder, tmp_path_factory) -> Path:
    """The model of a training that nothing disturbed."""
    output = tmp_path_factory.mktemp("trained")
    succeed(training(fold_folder, output))
    return output / "model.pt"


def test_a_training_without_room_for_its_checkpoint_goes_on(fold_folder, trained, disk):
    """Here fairseq writes, which says it in 30 lines and torch's words."""
    train_with_too_little_room(fold_folder, disk, (0, 30))
    assert_equal_weights(disk.folder / "model.pt", trained)


@pytest.mark.long
def test_a_training_with_many_sizes_of_disk(fold_folder, trained, disk):
    size = trained.stat().st_size // PAGE
    for pages in (1, 4, 8, 16, size, 2 * size):  # with 4 it has room enough
        train_with_too_little_room(fold_folder, disk, (pages,))
        assert_equal_weights(disk.folder / "model.pt", trained)
        disk.clear()


def test_a_checkpoint_that_cannot_be_repaired_stays_as_it_is(disk):
    """And one that fairseq wrote behind the half of its first attempt is not taken for whole."""
    import torch

    from flea_fairseq.models.repair import is_whole, repair_last

    last, whole = disk.folder / "checkpoint_last.pt", disk.folder / "checkpoint_best.pt"
    torch.save({"weights": torch.zeros(9000)}, whole)
    last.write_bytes(whole.read_bytes()[:20000])
    before = disk.files()
    for pages in (0, 3):
        disk.leave(pages)
        with pytest.raises(WriteError, match=f"checkpoint_last.pt: cannot be written: {TOLD}"):
            repair_last(disk.folder)
        assert disk.files() == before
    disk.free()
    last.write_bytes(whole.read_bytes()[:20000] + whole.read_bytes())
    with pytest.raises(RuntimeError):
        torch.load(last, weights_only=True)
    assert not is_whole(last)
    repair_last(disk.folder)
    assert last.read_bytes() == whole.read_bytes()


def test_the_page_says_so(inputs, disk):
    """What it offers to download is written whole, or the page shows the error."""
    app = pytest.importorskip("flea_fairseq.inference.app")
    recognizer = app.EmotionRecognizer.from_pretrained(inputs / "model.pt")
    with tempfile.TemporaryDirectory(dir=disk.folder) as folder:
        downloads = type("Downloads", (), {"name": folder})
        disk.leave(1)
        with pytest.raises(WriteError, match=f"timeline.*: cannot be written: {TOLD}"):
            app.show(recognizer, 60, downloads, str(inputs / "u7.wav"))
        disk.free()
        assert app.show(recognizer, 60, downloads, str(inputs / "u7.wav"))[0] == app.gr.update(visible=False)


PLACES = {  # what is wrong with the place -> what is said
    "a folder is there": (lambda path: path.mkdir(), "Is a directory; a folder has this name"),
    "its folder is a file": (lambda path: path.parent.write_text(""), "a file has the name of its folder"),
}


@pytest.mark.parametrize("what", PLACES)
def test_a_place_that_cannot_be_written_is_told(what, tmp_path):
    """Both ways of writing: a file, and files that belong together."""
    from flea_fairseq.data.files import replacing_files, write_text

    make, told = PLACES[what]
    path = tmp_path / "folder/file"
    if what == "a folder is there":
        path.parent.mkdir()
    make(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WriteError, match=f"{path}: cannot be written: .*{told}"):
        write_text(path, "x")
    with pytest.raises(WriteError, match=f"{tmp_path}/folder.*: cannot be written: .*{told}"):
        with replacing_files(path.parent) as temporary:
            (temporary / "file").write_text("x")
            (temporary / "other").write_text("x")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_read_only_disk_is_told(disk, inputs):
    (disk.folder / "there.json").write_text("{}")
    before = disk.files()
    subprocess.run(["mount", "-o", "remount,ro", str(disk.folder)], check=True)
    try:
        for step in ("evaluate", "cluster", "export fairseq", "predict textgrid"):
            said = fail(words(step, inputs, disk))
            assert said.startswith(f"error: {disk.folder}/") and said.endswith("or let this one be writable"), said
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk.folder)], check=True)
    assert disk.files() == before


def test_errors_of_other_files_are_told_as_they_are(tmp_path):
    from flea_fairseq.data.files import replacing

    with pytest.raises(FileNotFoundError, match="absent"), replacing(tmp_path / "a") as temporary:
        temporary.write_bytes((tmp_path / "absent").read_bytes())
    with pytest.raises(FleaError, match="of the step"), replacing(tmp_path / "a"):
        raise FleaError("of the step")
    assert not list(tmp_path.iterdir())
    assert json.loads(json.dumps(str(WriteError("a", "b")))) == "a: cannot be written: b"
