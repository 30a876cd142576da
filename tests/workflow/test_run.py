"""The whole graph with a micro model: all outputs, resume, and only what a change touches is run again.

A third of the corpus is silent, clipped, constant, or shorter than a word (micro.make_degenerate).
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import micro
import numpy as np
import pytest
from fairseq_runs import assert_equal_weights
from sklearn.cluster import MiniBatchKMeans

from flea_fairseq import EmotionRecognizer
from flea_fairseq.clustering.kmeans import read_kmeans
from flea_fairseq.data.manifest import read_manifest, utterance_id
from flea_fairseq.errors import ExperimentError
from flea_fairseq.evaluation.predictions import read_predictions
from flea_fairseq.models.checkpoints import load_tensors
from flea_fairseq.workflow.experiment import read_experiment
from flea_fairseq.workflow.method import Weights, method
from flea_fairseq.workflow.run import check_frames

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the graph needs Python 3.11"),
]

FOLD = ("folds=[Ses03]",)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    made = micro.make_corpus(tmp_path_factory.mktemp("speech") / "corpus with 'a quote' and; spaces")
    micro.make_degenerate(made)
    return made


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("work") / "run $(touch here)"


def start(corpus: Path, output: Path, *changes: str) -> subprocess.Popen:
    return micro.start(corpus, output, *micro.LOCAL, changes=(*micro.MICRO, *FOLD, *changes))


def run(corpus: Path, output: Path, *changes: str) -> tuple[set[str], str]:
    """The steps that were run, and what was printed."""
    printed, errors = micro.run(corpus, output, *micro.LOCAL, changes=(*micro.MICRO, *FOLD, *changes))
    return {line.split("] ")[1] for line in errors.splitlines() if line.startswith("[")}, printed


def test_killed_run_resumes_and_finishes(corpus, output):
    """The graph and all its steps are killed once the first training is under way."""
    import psutil  # comes with Snakemake

    process = start(corpus, output)
    deadline = time.time() + 300
    while time.time() < deadline and not list(output.glob("models/*/*/tapt_pretrain/run/train.log")):
        time.sleep(0.05)
    assert process.poll() is None
    (graph,) = psutil.Process(process.pid).children()  # Snakemake
    os.killpg(graph.pid, signal.SIGSTOP)  # or the training may end while the next command starts
    process.kill()
    process.wait()
    refused = start(corpus, output)  # Snakemake and its steps are there still, and hold the folder
    assert "are at work there" in refused.communicate(timeout=300)[1] and refused.returncode == 1
    os.killpg(graph.pid, signal.SIGKILL)
    assert not (output / "results.json").exists()
    steps, printed = run(corpus, output)
    assert "Ses03/seed1/cluster_first" not in steps and "Ses03/seed1/tapt_pretrain" in steps
    rows = json.loads((output / "results.json").read_text())
    assert {row["system"] for row in rows} == {"baseline", "tapt", "flea_l2_k8_mean", "flea_l2_k8_attention"}
    assert {row["fold"] for row in rows} == {"Ses03", "mean"} and all(row["protocol"] == "inner" for row in rows)
    expected = len((output / "folds/Ses03/test.emo").read_text().splitlines())
    assert {row["n"] for row in rows} == {expected} == {16}
    assert "FLEA, layer 2, K 8, attention pooling" in printed and "AUC" in printed
    assert (
        "<script" not in (output / "report.html").read_text() and (output / "results/Ses03/seed1/frames.json").exists()
    )
    assert not list(Path.cwd().glob("here")) and not list(output.rglob("here"))


def test_the_same_run_in_another_folder_gives_the_same_bytes_and_weights(corpus, output, tmp_path):
    """Of the two, one was killed. That another seed gives others: test_another_seed_and_cell_train_nothing_again."""
    run(corpus, tmp_path / "again")
    micro.assert_same(output, tmp_path / "again")
    models = sorted(path.relative_to(output) for path in output.glob("models/*/*/*/model.pt"))
    assert len(models) == 5
    for model in models:
        assert_equal_weights(output / model, tmp_path / "again" / model)


def no_number(text: str) -> float:
    raise AssertionError(f"{text} in a result")


def test_degenerate_utterances_have_numbers_everywhere(corpus, output):
    kinds = {path.stem: kind for path, kind in micro.degenerate_utterances(corpus).items()}
    tested = {utterance_id(name) for name in read_manifest(output / "folds/Ses03/test.tsv").names} & kinds.keys()
    assert {kinds[utterance] for utterance in tested} == set(micro.DEGENERATE)
    predictions = list(output.glob("results/Ses03/*/*/predictions.tsv"))
    for path in predictions:
        found = read_predictions(path)
        assert tested <= set(found.ids) and found.probabilities.min() >= 0
        assert np.abs(found.probabilities.sum(1) - 1).max() < 1e-5
    results = [output / "results.json", *output.glob("results/**/*.json")]
    for path in results:
        json.loads(path.read_text(), parse_constant=no_number)
    for path in output.glob("models/*/*/*/model.pt"):
        assert all(value.isfinite().all() for value in load_tensors(path)["model"].values())
    fitted = list(output.glob("units/**/km8.npz"))
    assert (len(predictions), len(results), len(fitted)) == (4, 5, 2)
    assert all(np.isfinite(read_kmeans(path).centroids).all() for path in fitted)


def test_degenerate_recordings_are_predicted(corpus, output):
    recognizer = EmotionRecognizer.from_pretrained(output / "models/Ses03/seed1/flea_l2_k8_attention/model.pt")
    for path in micro.degenerate_utterances(corpus):
        said = recognizer.predict_file(path)
        assert abs(said.probabilities.sum() - 1) < 1e-6 and abs(said.attention.sum() - 1) < 1e-6
        assert np.abs(said.posteriors.sum(1) - 1).max() < 1e-5 and len(said.posteriors) == len(said.attention)


def test_a_second_run_does_nothing(corpus, output):
    before = {path: path.stat().st_mtime_ns for path in output.glob("models/*/*/*/model.pt")}
    steps, _ = run(corpus, output)
    assert steps == set() and before == {path: path.stat().st_mtime_ns for path in output.glob("models/*/*/*/model.pt")}


def test_a_changed_setting_runs_only_what_it_touches(corpus, output):
    steps, _ = run(corpus, output, "settings.flea_mean.model.pooling_dropout=0.2")
    mean = "flea_l2_k8_mean"
    assert steps == {f"Ses03/seed1/{name}" for name in (mean, f"evaluate_{mean}", "explain")} | {"report"}


def test_another_seed_and_cell_train_nothing_again(corpus, output):
    """The clustering is made again, with the new label sets; models of the same inputs stay."""
    before = {path: path.stat().st_mtime_ns for path in output.glob("models/Ses03/seed1/*/run/train.log")}
    steps, printed = run(corpus, output, "seeds=[1,2]", "systems=[tapt,flea]", "poolings=[attention]", "clusters=[8,4]")
    assert len(before) == 5 and before == {path: path.stat().st_mtime_ns for path in before}
    assert {"Ses03/seed1/flea_l2_k4_attention", "Ses03/seed2/tapt", "Ses03/seed2/flea_l2_k8_attention"} <= steps
    rows = [row for row in json.loads((output / "results.json").read_text()) if row["system"] == "tapt"]
    assert [(row["fold"], row.get("seed")) for row in rows][:2] == [("Ses03", 1), ("Ses03", 2)]
    first, second = (output / f"results/Ses03/seed{seed}/tapt/predictions.tsv" for seed in (1, 2))
    assert first.read_text() != second.read_text()


def test_a_failing_step_is_named_with_the_end_of_its_log(corpus, output, tmp_path):
    process = start(corpus, output, "settings.flea_mean.criterion.class_weights=[1.0]")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "step train failed" in errors and "1 values for 4 classes" in errors and "Traceback" not in errors


def test_a_pretrained_encoder_takes_the_place_of_the_first_model(corpus, output, tmp_path, hugging_face_folder):
    """As on IEMOCAP: first units by a scikit-learn k-means model of a layer; phases 1a and 2 start from the encoder."""
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((200, 64), dtype=np.float32)
    joblib.dump(MiniBatchKMeans(8, n_init=1).fit(frames), tmp_path / "km.bin")
    shape = {"encoder_layers": 3, "encoder_embed_dim": 64, "encoder_ffn_embed_dim": 128, "conv_pos": 16,
             "conv_pos_groups": 4, "conv_feature_layers": "'[(32,10,5)] + [(32,3,2)]*4 + [(32,2,2)]*2'"}  # fmt: skip
    changes = [f"settings.pretrain.model.{key}={value}" for key, value in shape.items()]
    changes += [f"encoder={hugging_face_folder}", f"first_units.kmeans={tmp_path / 'km.bin'}", "first_units.layer=3"]
    steps, _ = run(corpus, tmp_path / "run", *changes)
    assert "Ses03/any/cluster_first" in steps and "Ses03/seed1/cluster_tapt" in steps
    units = tmp_path / "run/units/Ses03"
    assert len((units / "any/first/l3/dict.km.txt").read_text().splitlines()) == 8
    assert not list(units.glob("any/first/l3/*.npz")) and (units / "seed1/tapt/l2/km8.npz").exists()
    inputs = json.loads((tmp_path / "run/models/Ses03/seed1/align_l2_k8/run/inputs.json").read_text())
    assert any(str(hugging_face_folder) in setting for setting in inputs["settings"])


def test_a_layer_that_the_encoder_lacks_is_said_before_anything_runs(corpus, tmp_path, hugging_face_folder):
    where = [f"encoder={hugging_face_folder}", f"first_units.kmeans={hugging_face_folder}", "first_units.layer=3"]
    process = start(corpus, tmp_path / "run", *where, "layers=[2,9]")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1 and "error: layers: 9, but" in errors and "has layers 1 to 3" in errors
    assert not (tmp_path / "run").exists()


def test_an_unknown_fold_and_a_missing_corpus_are_said_in_one_line(corpus, output):
    for changes, root, words in ((["folds=[Ses09]"], corpus, "Ses09"), ([], corpus / "absent", "no such folder")):
        process = start(root, output, *changes)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1 and words in errors and len(errors.strip().splitlines()) == 1


def test_more_clusters_than_frames_are_said_before_anything_is_trained(corpus, output, tmp_path):
    manifest = output / "folds/Ses03/ssl.tsv"
    frames = sum((samples - 400) // 320 + 1 for samples in read_manifest(manifest).frames)
    _, errors = start(corpus, tmp_path / "run", f"clusters=[8,{frames + 1}]").communicate(timeout=300)
    assert f"folds/Ses03/ssl.tsv: {frames + 1} clusters, but only {frames} frames to fit them on" in errors
    assert not (tmp_path / "run/models").exists() and not (tmp_path / "run/units").exists()
    for change, said in (
        ("first_units.clusters=99999", f"99999 .* {frames} frames"),
        ("max_frames=7", "50 .* 7 frames"),
    ):
        plan = read_experiment(micro.ROOT / "examples/demo/experiment.yaml", [change])
        with pytest.raises(ExperimentError, match=said):
            check_frames(plan, method(plan, Weights()), [manifest])
