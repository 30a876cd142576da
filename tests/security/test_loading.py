"""Files from others that would run something, where they would be loaded: nothing runs, and the reason is said."""

import json
import os
import shutil

import pytest
import torch
import yaml
from fairseq_runs import CONFIG, PRETRAIN, start, tiny_pretraining
from support import Hostile

from flea_fairseq.errors import CheckpointError, ExperimentError
from flea_fairseq.models.checkpoints import read_checkpoint
from flea_fairseq.workflow.train import train


def test_the_code_of_a_hugging_face_folder_is_not_imported(hugging_face_folder, tmp_path):
    """`auto_map` names a class that transformers would import if it were trusted; then weights that are a pickle."""
    folder = tmp_path / "model"
    shutil.copytree(hugging_face_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "code.Model", "AutoConfig": "code.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'created')!r})\n")
    assert len(read_checkpoint(folder).encoder_state) > 10
    (folder / "model.safetensors").unlink()
    hostile = Hostile(os.mkdir, (str(tmp_path / "created"),))
    torch.save({"encoder.layer_norm.weight": hostile}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin: refused, because it asks for 'posix.mkdir'"):
        read_checkpoint(folder)
    assert not (tmp_path / "created").exists()


def test_a_training_does_not_go_on_from_a_hostile_checkpoint(fold_folder, tmp_path):
    """As fairseq itself reads it: whole, and with a class that it never stores."""
    (tmp_path / "run").mkdir()
    torch.save({"extra_state": Hostile(os.mkdir, (str(tmp_path / "created"),))}, tmp_path / "run/checkpoint_last.pt")
    process = start("pretrain", fold_folder, tmp_path / "run", PRETRAIN)
    assert process.wait(timeout=300) != 0
    said = (tmp_path / "run/out.log").read_text()
    assert "Preparing to load checkpoint" in said and "posix.mkdir" in said
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize(
    "key", ["optimizer.adam_betas", "model.conv_feature_layers", "model.conv_aggregator_layers", "optimizer.lamb_betas"]
)
@pytest.mark.parametrize("where", ["file", "change"])
def test_a_config_that_is_python_is_refused_and_runs_nothing(fold_folder, tmp_path, key, where):
    value = f"__import__('os').mkdir('{tmp_path / 'created'}') or (0.9, 0.98)"
    folder, settings = tmp_path / "config", tiny_pretraining(1)
    shutil.copytree(CONFIG, folder)
    if where == "file":
        section, _, name = key.partition(".")
        config = yaml.safe_load((folder / "pretrain.yaml").read_text())
        config.setdefault(section, {})[name] = value
        (folder / "pretrain.yaml").write_text(yaml.safe_dump(config))
        settings = [setting for setting in settings if not setting.startswith(key)]
    else:
        settings += [f'{key}="{value}"']
    with pytest.raises(ExperimentError, match=rf"{key} is .*mkdir.*only numbers"):
        train(folder, "pretrain", fold_folder, tmp_path / "model.pt", tmp_path / "run", labels=fold_folder,
              label_sets=["km50"], settings=settings)  # fmt: skip
    assert not (tmp_path / "created").exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/name:os.system", "!!python/module:os"])
def test_yaml_tags_are_refused(fold_folder, tmp_path, tag):
    folder = tmp_path / "config"
    shutil.copytree(CONFIG, folder)
    with open(folder / "pretrain.yaml", "a") as file:
        file.write(f"\nextra: {tag} [{tmp_path / 'created'}]\n")
    with pytest.raises(ExperimentError, match="pretrain.yaml: cannot be read as a config .*python"):
        train(folder, "pretrain", fold_folder, tmp_path / "model.pt", tmp_path / "run")
    assert not (tmp_path / "created").exists()
