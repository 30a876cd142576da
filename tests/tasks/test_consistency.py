"""`criterion.consistency` in a whole training step: task, model and criterion beside the loss written out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from support import CLASSES

import flea_fairseq.tasks  # noqa: F401  registers the criterions
from flea_fairseq.criterions.emotion_cross_entropy import EmotionCrossEntropy, EmotionCrossEntropyConfig
from flea_fairseq.data.manifest import read_labels, read_units
from flea_fairseq.errors import ExperimentError
from flea_fairseq.models.flea_classifier import FleaClassifier, FleaClassifierConfig
from flea_fairseq.tasks.speech_emotion import SpeechEmotionConfig, SpeechEmotionTask

QUIET = dict.fromkeys(("dropout", "attention_dropout", "pooling_dropout", "mask_prob"), 0.0)  # each pass is the same
PARTS = ("encoder.encoder.layers.0.", "head.weight")
WEIGHTS = [3.0, 1.0, 2.0, 1.0]


@pytest.fixture
def step(labelled, hugging_face_folder, tmp_path):
    """A task whose training split is loaded, and its model, in training."""
    cfg = SpeechEmotionConfig(
        data=str(labelled), label_dir=str(labelled), labels=["km50"], train_subset="train", save_dir=str(tmp_path),
        seed=1, balance=False,
    )  # fmt: skip
    task = SpeechEmotionTask.setup_task(cfg)
    return task, built(task, hugging_face_folder).train()


def built(task: SpeechEmotionTask, init: Path, pooling: str = "attention") -> FleaClassifier:
    torch.manual_seed(0)
    values = FleaClassifierConfig(init_checkpoint=str(init), seed=1, pooling=pooling, **QUIET)
    model = task.build_model(OmegaConf.create({**OmegaConf.structured(values), "_name": "flea_classifier"}))
    task.load_dataset("train")
    return model


def criterion(task: SpeechEmotionTask, **values) -> EmotionCrossEntropy:
    config = EmotionCrossEntropyConfig(_name="emotion_cross_entropy", **values)
    return task.build_criterion(OmegaConf.structured(config))


def batch(task: SpeechEmotionTask, indices) -> dict:
    return task.datasets["train"].collater([task.datasets["train"][index] for index in indices])


def gradients(model: FleaClassifier, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def shares_by_hand(folder: Path) -> np.ndarray:
    """P(emotion | cluster) of equally frequent emotions: (4, 50)."""
    labels, rows = read_labels(folder / "train.emo"), read_units(folder / "train.km50")
    frames = [np.concatenate([row for row, label in zip(rows, labels) if label == name]) for name in CLASSES]
    likely = np.array([[np.mean(of == cluster) for cluster in range(50)] for of in frames])
    return likely / np.maximum(likely.sum(0), 1e-12)


def loss_by_hand(model: FleaClassifier, folder: Path, sample: dict, consistency: float, weights: list[float]):
    """Utterance by utterance and frame by frame; the head is linear, and the clusters come from their file."""
    rows, shares, loss = read_units(folder / "train.km50"), shares_by_hand(folder), 0.0
    output = model(**sample["net_input"])
    for i, (index, label) in enumerate(zip(sample["id"].tolist(), sample["target"].tolist())):
        total = -output["logits"][i].log_softmax(0)[label]
        for t, cluster in enumerate(rows[index]):
            said = (model.head.weight @ output["x"][i, t] + model.head.bias).log_softmax(0)
            for emotion in range(len(CLASSES)):
                total = total - consistency * shares[emotion, cluster] * said[emotion] / len(rows[index])
        loss = loss + weights[label] * total
    return loss


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_term_trains_encoder_and_head_as_the_loss_by_hand(step, labelled, weights):
    task, model = step
    sample = batch(task, [0, 5, 10, 15, 2])
    loss, size, _ = criterion(task, consistency=0.7, class_weights=weights)(model, sample)
    assert size == (5 if weights is None else sum(WEIGHTS[label] for label in sample["target"]))
    found = gradients(model, loss)
    by_hand = loss_by_hand(model, labelled, sample, 0.7, weights or [1.0] * 4)
    assert float(loss.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)
    expected = gradients(model, by_hand)
    without = gradients(model, criterion(task, class_weights=weights)(model, sample)[0])
    assert found.keys() == expected.keys() == without.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)
    for part in PARTS:
        names = [name for name in found if name.startswith(part)]
        assert max(float((found[name] - without[name]).abs().max()) for name in names) > 1e-3


def test_without_weight_the_loss_is_the_cross_entropy_to_the_bit(step):
    task, model = step
    sample = batch(task, range(8))
    loss, _, _ = criterion(task, consistency=0.0)(model, sample)
    plain = torch.nn.functional.cross_entropy(model(**sample["net_input"])["logits"], sample["target"], reduction="sum")
    assert torch.equal(loss, plain)
    found, expected = gradients(model, loss), gradients(model, plain)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def test_an_utterance_of_weight_two_counts_as_two(step):
    """Of both terms: 3 times the angry, twice the neutral ones, all others once."""
    task, model = step
    indices = [0, 5, 10, 15]  # one of each class
    repeated = [index for index in indices for _ in range(int(WEIGHTS[index % 4]))]
    weighted = criterion(task, consistency=0.7, class_weights=WEIGHTS)(model, batch(task, indices))
    plain = criterion(task, consistency=0.7)(model, batch(task, repeated))
    assert weighted[1] == plain[1] == 7
    assert float(weighted[0].detach()) == pytest.approx(float(plain[0].detach()), rel=1e-5)


def test_a_pooling_without_frame_logits_is_refused_when_the_criterion_is_made(step, hugging_face_folder):
    task, _ = step
    built(task, hugging_face_folder, "correlation")
    with pytest.raises(ExperimentError, match="criterion.consistency: model.pooling is correlation, whose head cannot"):
        criterion(task, consistency=0.5)
    criterion(task, consistency=0.0)
