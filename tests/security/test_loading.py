"""Files from others that would run something, where they would be loaded: nothing runs, and the reason is said."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fairseq_runs import CONFIG, PRETRAIN, ROOT, start, tiny_pretraining
from support import Hostile, write_features

from flea_fairseq.clustering.features import Source, read_features
from flea_fairseq.clustering.kmeans import read_kmeans
from flea_fairseq.data.corpus import read_corpus
from flea_fairseq.data.manifest import read_dictionary, read_labels, read_manifest, read_units
from flea_fairseq.data.spans import read_spans
from flea_fairseq.errors import CheckpointError, ExperimentError, FleaError
from flea_fairseq.evaluation.predictions import read_predictions
from flea_fairseq.models.checkpoints import load_classifier, read_checkpoint
from flea_fairseq.workflow.experiment import read_experiment
from flea_fairseq.workflow.train import train
from flea_fairseq.workflow.training_config import merged

# What would make the folder `created`; every test ends by seeing that it is not there.


def hostile(folder: Path) -> Hostile:
    return Hostile(os.mkdir, (str(folder / "created"),))


def test_the_code_of_a_hugging_face_folder_is_not_imported(hugging_face_folder, tmp_path):
    """`auto_map` names a class that transformers would import if it were trusted; then weights that are a pickle."""
    folder = tmp_path / "model"
    shutil.copytree(hugging_face_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "code.Model", "AutoConfig": "code.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'created')!r})\n")
    assert len(read_checkpoint(folder).encoder_state) > 10
    (folder / "model.safetensors").write_bytes(pickle.dumps(hostile(tmp_path)))
    with pytest.raises(CheckpointError, match="model.safetensors: damaged or not a model file"):
        read_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"encoder.layer_norm.weight": hostile(tmp_path)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin: refused, because it asks for 'posix.mkdir'"):
        read_checkpoint(folder)
    assert not (tmp_path / "created").exists()


def test_a_training_does_not_go_on_from_a_hostile_checkpoint(fold_folder, tmp_path):
    """As fairseq itself reads it: whole, and with a class that it never stores."""
    (tmp_path / "run").mkdir()
    torch.save({"extra_state": hostile(tmp_path)}, tmp_path / "run/checkpoint_last.pt")
    process = start("pretrain", fold_folder, tmp_path / "run", PRETRAIN)
    assert process.wait(timeout=300) != 0
    said = (tmp_path / "run/out.log").read_text()
    assert "Preparing to load checkpoint" in said and "posix.mkdir" in said
    assert not (tmp_path / "created").exists()


def test_a_model_whose_config_is_python_is_read_as_values(save_classifier, tmp_path):
    """Settings that fairseq evaluates when it trains, references and resolvers stay text."""
    path = save_classifier(tmp_path / "model.pt")
    content = torch.load(path, weights_only=True)
    program = f"__import__('os').mkdir({str(tmp_path / 'created')!r})"
    content["cfg"]["optimizer"] = {"_name": "adam", "adam_betas": program}
    content["cfg"]["criterion"] = {"_target_": "os.mkdir", "wer_args": program}
    content["cfg"]["common"] = {
        "user_dir": str(tmp_path),
        "a": "${oc.env:HOME}",
        "b": "${oc.create:{_target_: os.mkdir}}",
    }
    (tmp_path / "__init__.py").write_text(f"{program}\n")
    torch.save(content, path)
    assert load_classifier(path).classes
    content["cfg"]["model"]["conv_feature_layers"] = content["cfg"]["model"]["classes"] = program
    content["cfg"]["model"]["encoder_config"] = program
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="its config is not one of fairseq's or ours"):
        load_classifier(path)
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("name", ["esc\x1b[2J", "a\nb", "a\tb", "", " a", "a\u202eb", 7, ["a"]])
def test_class_names_that_would_steer_a_terminal_are_refused(save_classifier, tmp_path, name):
    path = save_classifier(tmp_path / "model.pt")
    content = torch.load(path, weights_only=True)
    content["cfg"]["model"]["classes"][1] = name
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="model.pt: the name of class .* (begins|holds|is)") as error:
        load_classifier(path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("kind", ["centroids", "metadata", "pickle", "npy"])
def test_arrays_of_objects_are_not_unpickled(tmp_path, kind):
    """In k-means models and feature files."""
    objects = np.array([[hostile(tmp_path)]], dtype=object)
    if kind == "npy":
        path = write_features(tmp_path, "train", 0, 1, [1], [np.zeros((1, 3), np.float32)], Source("x", 0))
        np.save(path, objects, allow_pickle=True)
        with pytest.raises(FleaError, match="not a whole array"):
            read_features(tmp_path, "train")
    else:
        whole = {"centroids": np.eye(1, dtype=np.float32), "metadata": np.array('{"clusters": 1, "dim": 1}')}
        path = tmp_path / "kmeans.npz"
        if kind == "pickle":  # no zip: taken for joblib's
            path.write_bytes(pickle.dumps(hostile(tmp_path)))
        else:
            np.savez(path, **{**whole, kind: objects})
        with pytest.raises(CheckpointError, match="refused, because it asks for|not a whole k-means model"):
            read_kmeans(path)
    assert not (tmp_path / "created").exists()


READERS = {
    "corpus.tsv": read_corpus, "train.tsv": read_manifest, "train.emo": read_labels, "dict.emo.txt": read_dictionary,
    "ssl.km": read_units, "spans.rttm": read_spans, "predictions.tsv": read_predictions,
}  # fmt: skip


@pytest.mark.parametrize("name", [*READERS, "train_0_1.len"])
@pytest.mark.parametrize("text", ["pickle", "__import__('os').mkdir('{}')", "!!python/object/apply:os.mkdir ['{}']"])
def test_tables_are_text(tmp_path, name, text):
    """A table in whose place a pickle, an expression or a tag stands is refused by its name."""
    content = text.format(tmp_path / "created").encode() if text != "pickle" else pickle.dumps(hostile(tmp_path))
    if name.endswith(".len"):
        write_features(tmp_path, "train", 0, 1, [1], [np.zeros((1, 3), np.float32)], Source("x", 0))
    (tmp_path / name).write_bytes(content + b"\n")
    if name in ("train.emo",) and text.startswith("__"):
        assert read_labels(tmp_path / name) == [content.decode()]  # a word like any other
    else:
        with pytest.raises(FleaError, match=name):
            READERS[name](tmp_path / name) if name in READERS else read_features(tmp_path, "train")
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("name", ["../x.wav", "/etc/passwd", "a/../../x.wav", "..", "a/..", "/", "//x.wav"])
def test_names_that_leave_the_corpus_are_refused_with_their_line(tmp_path, name):
    (tmp_path / "train.tsv").write_text(f"{tmp_path}\nok.wav\t400\n{name}\t400\n")
    with pytest.raises(FleaError, match="train.tsv:3: name .* leaves the corpus root"):
        read_manifest(tmp_path / "train.tsv")
    header = "id\tpath\tframes\tspeaker\tsession\temotion"
    (tmp_path / "corpus.tsv").write_text(f"# root: {tmp_path}\n{header}\nx\t{name}\t400\ts\t\te\n")
    with pytest.raises(FleaError, match="corpus.tsv:3: path .* leaves the corpus root"):
        read_corpus(tmp_path / "corpus.tsv")


PYTHON = "__import__('os').mkdir('CREATED') or (0.9, 0.98)"
CALL = {"_target_": "os.mkdir", "path": "CREATED"}
FACTORY = {"version": 1, "handlers": {"x": {"()": "os.mkdir", "path": "CREATED"}}, "root": {"handlers": ["x"]}}
CONFIGS: dict[str, dict] = {  # what a config file may say to be more than values
    "defaults": {"defaults": ["_self_", {"hydra/launcher": "evil"}]},
    "callbacks": {"hydra": {"callbacks": {"x": CALL}}},
    "launcher": {"hydra": {"launcher": CALL}},
    "sweeper": {"hydra": {"sweeper": CALL}},
    "job logging": {"hydra": {"job_logging": FACTORY}},
    "hydra logging": {"hydra": {"hydra_logging": FACTORY}},
    "environment": {"hydra": {"job": {"env_set": {"LD_PRELOAD": "CREATED"}}}},
    "search path": {"hydra": {"searchpath": ["file://CREATED"]}},
    "working folder": {"hydra": {"run": {"dir": "CREATED"}}},
    "dotted key": {"hydra.callbacks.x": CALL},
    "target": {"task": CALL},
    "target in a list": {"task": {"labels": [CALL]}},
    "partial": {"task": {"_partial_": True, "_args_": [1]}},
    "package": {"callbacks": {"x": CALL}},
    **{f"reference {text}": {"task": {"crop": text}} for text in (
        "${oc.env:HOME}", "${env:HOME}", "${hydra:runtime.cwd}", "${now:%Y}", "${oc.create:{_target_: os.mkdir}}",
        "a${task.data}", "${task.data}${task.data}", "${.data}", "${task[data]}", "${${task.data}}")},
    "loop": {"task": {"crop": "${task.crop}"}},
    "user_dir": {"common": {"user_dir": "CREATED"}},
    "user_dir by reference": {"common": {"user_dir": "${task.crop}"}, "task": {"crop": "/CREATED"}},
    **{key: {key.split(".")[0]: {key.split(".")[1]: "CREATED"}} for key in (  # fairseq opens, imports or sends by these
        "checkpoint.finetune_from_model", "checkpoint.restore_file", "checkpoint.s3_upload_path",
        "common.tensorboard_logdir", "common.wandb_project", "common.aim_repo", "common.log_file",
        "common.plasma_path", "common.quantization_config_path", "common_eval.path", "common_eval.model_overrides",
        "task.post_save_script", "task.data", "task.label_dir", "task.cnn_cache", "model.init_checkpoint",
        "model.w2v_path", "model.data", "dataset.train_subset", "dataset.valid_subset",
        "distributed_training.distributed_init_method", "bpe._name", "tokenizer._name", "scoring._name", "ema._name",
        "criterion.wer_kenlm_model", "interactive.input")},
    "bpe": {"bpe": "gpt2"},
    **{key: {key.split(".")[0]: {key.split(".")[1]: PYTHON}} for key in (
        "optimizer.adam_betas", "optimizer.adamax_betas", "optimizer.lamb_betas", "optimizer.adafactor_eps",
        "model.conv_feature_layers", "model.conv_aggregator_layers", "criterion.wer_args")},
    "Python in a list": {"optimizer": {"adam_betas": [PYTHON]}},
    "a text of brackets": {"model": {"conv_feature_layers": "['a'] * 3"}},
}  # fmt: skip


def written(value, folder: Path):
    """A value with the place of `created` in it."""
    return json.loads(json.dumps(value).replace("CREATED", str(folder / "created")))


def refused_training(folder: Path, fold: Path, tmp_path: Path, *settings: str) -> str:
    with pytest.raises(ExperimentError) as error:
        train(folder, "pretrain", fold, tmp_path / "model.pt", tmp_path / "run", labels=fold, label_sets=["km50"],
              settings=[*tiny_pretraining(1), *settings])  # fmt: skip
    assert not (tmp_path / "created").exists() and not (tmp_path / "run/train.log").exists()
    return str(error.value)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("where", ["config", "system"])
def test_a_config_file_is_values_alone(fold_folder, tmp_path, kind, where):
    """Refused by its file and key before fairseq is started."""
    folder = tmp_path / "config"
    shutil.copytree(CONFIG, folder)
    path = folder / ("pretrain.yaml" if where == "config" else "system/p_tapt.yaml")
    config = yaml.safe_load(path.read_text())
    for key, value in written(CONFIGS[kind], tmp_path).items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ExperimentError) as error:
        train(folder, "pretrain", fold_folder, tmp_path / "model.pt", tmp_path / "run", labels=fold_folder,
              label_sets=["km50"], system="p_tapt" if where == "system" else None)  # fmt: skip
    assert path.name in str(error.value) or "refers to no other value" in str(error.value)
    assert not (tmp_path / "created").exists() and not (tmp_path / "run/train.log").exists()


@pytest.mark.parametrize(
    "setting",
    ["~model", "~model.dropout=0.1", "+hydra.callbacks.x._target_=os.mkdir", "++model.dropout=1", "hydra.run.dir=/x",
     "hydra/launcher=x", "hydra/job_logging=none", "model=x", "model@x=1", "key", "a b=1", "=1", "model.dropout",
     "model._target_=os.mkdir", "model.dropout={_target_: os.mkdir}", "model.dropout=[[1]]", "model.dropout=a: b: c",
     "task.crop=${oc.env:HOME}", "task.labels=[\"${now:%Y}\"]", "model.dropout=!!python/name:os.system x",
     "--config-dir=/x", "-m", "common.user_dir=/x", "checkpoint.save_dir=/x", "task.data=/x", "model.init_checkpoint=x",
     "task.label_dir=/x", "task.cnn_cache=/x", "model.dropout.x=1", "task.crop=random;touch x", "task.crop=$(touch x)"],
)  # fmt: skip
def test_a_setting_is_a_key_and_a_value(fold_folder, tmp_path, setting):
    assert refused_training(CONFIG, fold_folder, tmp_path, setting).isprintable()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the graph needs Python 3.11")
@pytest.mark.parametrize("kind", [kind for kind, config in CONFIGS.items() if list(config) != ["defaults"]])
@pytest.mark.parametrize("where", ["file", "--set"])
def test_an_experiment_changes_values_alone(tmp_path, kind, where):
    """Its settings, and the config folder that it names."""
    ((section, part),) = list(written(CONFIGS[kind], tmp_path).items())[-1:]
    pairs = part.items() if isinstance(part, dict) else [("_name", part)]
    shutil.copytree(CONFIG, tmp_path / "config")
    (tmp_path / "m.py").write_text("")
    text = {"name": "x", "manifest": "m.py", "config_dir": "config", "layers": 1, "clusters": 2}
    for key, value in pairs:
        settings = {"pretrain": {f"{section}.{key}": value}}
        (tmp_path / "x.yaml").write_text(
            yaml.safe_dump({**text, **({"settings": settings} if where == "file" else {})})
        )
        changes = [f"settings.pretrain.{section}.{key}={json.dumps(value)}"] if where == "--set" else []
        with pytest.raises(ExperimentError):
            read_experiment(tmp_path / "x.yaml", changes)
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/name:os.system", "!!python/module:os"])
def test_yaml_tags_are_refused(fold_folder, tmp_path, tag):
    folder = tmp_path / "config"
    shutil.copytree(CONFIG, folder)
    with open(folder / "pretrain.yaml", "a") as file:
        file.write(f"\nextra: {tag} [{tmp_path / 'created'}]\n")
    assert "python" in refused_training(folder, fold_folder, tmp_path)
    (tmp_path / "experiment.yaml").write_text(f"name: {tag} [{tmp_path / 'created'}]\n")
    with pytest.raises(ExperimentError, match="experiment.yaml: not YAML"):
        read_experiment(tmp_path / "experiment.yaml")
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "- 1", "x", "a: 1\n---\nb: 2", "\x00"])
def test_yaml_that_is_no_config_is_refused(tmp_path, text):
    (tmp_path / "pretrain.yaml").write_text(text)
    with pytest.raises(ExperimentError, match=r"pretrain.yaml: "):
        merged(tmp_path, "pretrain", None, [])


def test_fairseq_reads_no_other_file_of_a_config_folder(fold_folder, tmp_path, monkeypatch):
    """Files that hydra would find beside the config, Python modules where the command is started: a training runs, and
    they do not. fairseq-hydra-train itself runs both, so this test could fail."""
    folder, plugin = tmp_path / "config", tmp_path / "plugin"
    shutil.copytree(CONFIG, folder)
    for name in ("hydra/job_logging/default.yaml", "hydra/callbacks/evil.yaml", "flea_training.yaml", "config.yaml",
                 "run/local.yaml", "run/torchrun.yaml", "model/flea_hubert.yaml"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(yaml.safe_dump(written({"hydra": {"job_logging": FACTORY}}, tmp_path)))
    started = tmp_path / "started here"
    for name in ("numpy.py", "hydra/__init__.py", "hydra_plugins/evil.py", "sitecustomize.py"):
        (started / name).parent.mkdir(parents=True, exist_ok=True)
        (started / name).write_text(f"import os\nos.mkdir({str(tmp_path / 'created')!r})\n")
    monkeypatch.chdir(started)
    train(folder, "pretrain", fold_folder, tmp_path / "model.pt", tmp_path / "run", labels=fold_folder,
          label_sets=["km50"], settings=tiny_pretraining(1))  # fmt: skip
    assert not (tmp_path / "created").exists() and (tmp_path / "model.pt").exists()
    assert os.listdir(tmp_path / "run/config") == ["flea_training.yaml"]

    config = yaml.safe_load((folder / "pretrain.yaml").read_text())
    config["hydra"] = written({"job_logging": FACTORY}, tmp_path)
    (folder / "pretrain.yaml").write_text(yaml.safe_dump(config))
    plugin.mkdir()
    stock = [sys.executable, "-m", "fairseq_cli.hydra_train", "--config-dir", str(folder), "--config-name", "pretrain"]
    subprocess.run(stock, cwd=ROOT, capture_output=True)
    assert (tmp_path / "created").is_dir()
