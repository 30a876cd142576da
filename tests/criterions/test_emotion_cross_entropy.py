"""`criterion.balanced`: the weights of scikit-learn and of Chen and Rudnicky, from the training labels."""

import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.utils.class_weight import compute_class_weight
from support import CLASSES

import flea_fairseq.tasks  # noqa: F401  registers the criterions
from flea_fairseq.criterions.emotion_cross_entropy import (
    EmotionCrossEntropy,
    EmotionCrossEntropyConfig,
    frame_cross_entropy,
)
from flea_fairseq.errors import ExperimentError
from flea_fairseq.tasks.speech_emotion import SpeechEmotionConfig, SpeechEmotionTask

TRAIN = ["sad"] * 7 + ["angry"] * 2 + ["neutral"] * 5 + ["happy"] * 3


@pytest.fixture
def task(tmp_path) -> SpeechEmotionTask:
    """A fold of which no split is loaded yet, as when fairseq makes the criterion."""
    (tmp_path / "dict.emo.txt").write_text("".join(f"{name} 1\n" for name in CLASSES))
    (tmp_path / "train.emo").write_text("\n".join(TRAIN) + "\n")
    (tmp_path / "valid.emo").write_text("sad\n" * 50)
    cfg = SpeechEmotionConfig(data=str(tmp_path), train_subset="train", save_dir=str(tmp_path), seed=1)
    return SpeechEmotionTask.setup_task(cfg)


class Fixed(torch.nn.Module):
    """A model whose logits are given."""

    def forward(self, logits):
        return {"logits": logits}


def test_weights_are_scikit_learns_and_the_loss_is_that_of_their_code(task):
    config = EmotionCrossEntropyConfig(_name="emotion_cross_entropy", balanced=True)
    criterion = task.build_criterion(OmegaConf.structured(config))
    expected = compute_class_weight("balanced", classes=np.array(CLASSES), y=np.array(TRAIN))
    assert np.allclose(criterion.class_weights.numpy(), expected)
    theirs = torch.tensor([17 / TRAIN.count(name) for name in CLASSES])  # their scale: a sum of 1
    peer = torch.nn.CrossEntropyLoss(weight=theirs / theirs.sum())
    logits, target = torch.randn(9, 4), torch.tensor([0, 1, 2, 3, 3, 3, 2, 2, 0])
    sample = {"net_input": {"logits": logits}, "target": target}
    loss, size, _ = criterion(Fixed(), sample)
    assert float(loss) / size == pytest.approx(float(peer(logits, target)), rel=1e-5)
    assert EmotionCrossEntropyConfig().balanced is False


def test_a_class_without_training_utterances_is_named(task, tmp_path):
    (tmp_path / "train.emo").write_text("sad\nneutral\nangry\n")
    with pytest.raises(ExperimentError, match="happy is in no training utterance; leave it out"):
        EmotionCrossEntropy(task, 0.0, balanced=True)
    with pytest.raises(ExperimentError, match="give one of the two"):
        EmotionCrossEntropy(task, 0.0, [1.0] * 4, balanced=True)


def test_the_consistency_term_by_hand():
    """Two utterances of two and one frames; the third cluster was never seen, and asks for nothing."""
    logits = torch.tensor([[[0.0, 1.0], [2.0, 0.0]], [[1.0, 1.0], [9.0, 9.0]]])
    units = torch.tensor([[0, 2], [1, -1]])
    shares = torch.tensor([[0.25, 1.0, 0.0], [0.75, 0.0, 0.0]])
    first = -(0.25 * math.log(1 / (1 + math.e)) + 0.75 * math.log(math.e / (1 + math.e)))
    expected = [(first + 0) / 2, math.log(2)]
    assert frame_cross_entropy(logits, units, shares).tolist() == pytest.approx(expected, rel=1e-6)


def test_consistency_needs_clusters(task):
    with pytest.raises(ExperimentError, match="criterion.consistency needs clusters of frames: flea train --labels"):
        EmotionCrossEntropy(task, 0.0, consistency=0.5)


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf, None, True, "1"])
def test_consistency_is_a_number_of_zero_or_more(task, weight):
    with pytest.raises(ExperimentError, match="criterion.consistency is .*, expected a number of 0 or more"):
        EmotionCrossEntropy(task, 0.0, consistency=weight)
