"""`criterion.balanced`: the weights of scikit-learn and of Chen and Rudnicky, from the training labels."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.utils.class_weight import compute_class_weight
from support import CLASSES

import flea_fairseq.tasks  # noqa: F401  registers the criterions
from flea_fairseq.criterions.emotion_cross_entropy import EmotionCrossEntropy, EmotionCrossEntropyConfig
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
