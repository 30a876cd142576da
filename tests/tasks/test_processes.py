"""Two processes that torchrun starts give the loss curve of one, at the same audio an update."""

import sys

import pytest
from loss_curves import UPDATES, finetune, losses, pretrain

from flea_fairseq.workflow.launch import Launch

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="ranks come by omegaconf 2.1's oc.env")
TWO = Launch(2, "torchrun")


@pytest.fixture(scope="module")
def alone(fold_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    pretrain(fold_folder, folder)
    return folder


def test_pretraining(fold_folder, alone, tmp_path, capsys):
    pretrain(fold_folder, tmp_path, TWO)
    assert "an update: 2 x 1 x 3.75 s of audio = 7.5 s of audio" in capsys.readouterr().out
    one, two = losses(alone), losses(tmp_path)
    assert len(one) == len(two) == UPDATES and max(one) - min(one) > 0.1
    assert two == pytest.approx(one, abs=1e-3)


def test_finetuning(fold_folder, alone, tmp_path, capsys):
    init = alone / "model.pt"
    finetune(fold_folder, tmp_path / "one", init)
    finetune(fold_folder, tmp_path / "two", init, TWO)
    assert "an update: 2 x 1 x 2 utterances = 4 utterances" in capsys.readouterr().out
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == UPDATES and max(one) - min(one) > 0.01
    assert two == pytest.approx(one, abs=1e-3)
