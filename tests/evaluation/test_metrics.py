"""UA, WA and macro-F1 against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn import metrics as peer

from flea_fairseq.errors import CorpusError
from flea_fairseq.evaluation.metrics import Scores, confusion_matrix, count_pairs, recalls, scores

CLASSES = ("angry", "happy", "neutral", "sad")


def draw(seed: int, truth_classes=CLASSES, n: int = 97) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    return random.choice(truth_classes, n).tolist(), random.choice(CLASSES, n, p=[0.1, 0.5, 0.1, 0.3]).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed):
    truth, predicted = draw(seed)
    confusion = confusion_matrix(truth, predicted, CLASSES)
    assert (confusion == peer.confusion_matrix(truth, predicted, labels=CLASSES)).all() and confusion.dtype == np.int64
    indices = [np.array([CLASSES.index(label) for label in labels]) for labels in (truth, predicted)]
    assert (count_pairs(*indices, len(CLASSES)) == confusion).all()
    result = scores(confusion)
    assert result.ua == pytest.approx(peer.balanced_accuracy_score(truth, predicted))
    assert result.wa == pytest.approx(peer.accuracy_score(truth, predicted))
    assert result.macro_f1 == pytest.approx(peer.f1_score(truth, predicted, average="macro"))
    assert result.n == 97 and result.absent == ()


def test_a_class_absent_from_the_truth_is_named_and_does_not_count():
    truth, predicted = draw(7, truth_classes=("angry", "neutral", "sad"))
    assert "happy" in predicted
    result = scores(confusion_matrix(truth, predicted, CLASSES))
    assert result.absent == (1,)
    present = ("angry", "neutral", "sad")
    by_hand = [peer.recall_score(truth, predicted, labels=[name], average="macro") for name in present]
    assert result.ua == pytest.approx(sum(by_hand) / 3)
    assert result.macro_f1 == pytest.approx(peer.f1_score(truth, predicted, average="macro"))


def test_a_class_in_neither_truth_nor_predictions_does_not_count():
    result = scores(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    assert result.ua == pytest.approx((3 / 4 + 1) / 2)
    assert result.macro_f1 == pytest.approx((6 / 7 + 4 / 5) / 2)
    assert result.absent == (2,)


def test_confusions_add_up_over_batches():
    truth, predicted = draw(3)
    parts = [confusion_matrix(truth[a:b], predicted[a:b], CLASSES) for a, b in ((0, 20), (20, 21), (21, 97))]
    assert scores(sum(parts)) == scores(confusion_matrix(truth, predicted, CLASSES))


def test_nothing_scored_is_not_a_number():
    assert not confusion_matrix([], [], CLASSES).any()
    result = scores(np.zeros((4, 4), dtype=int))
    assert math.isnan(result.ua) and math.isnan(result.wa) and math.isnan(result.macro_f1)
    assert result.n == 0 and result.absent == (0, 1, 2, 3)


def test_a_single_utterance_is_scored():
    assert scores(np.array([[1, 0], [0, 0]])) == Scores(ua=1, wa=1, macro_f1=1, n=1, absent=(1,))
    assert scores(np.array([[0, 1], [0, 0]])) == Scores(ua=0, wa=0, macro_f1=0, n=1, absent=(1,))


def test_scores_are_plain_floats():
    result = scores(np.eye(4, dtype=int))
    assert {type(value) for value in (result.ua, result.wa, result.macro_f1)} == {float}  # a checkpoint stores them


def test_recalls_keep_leading_dimensions():
    matrices = np.array([[[2, 2], [0, 4]], [[0, 0], [1, 3]]])
    with np.errstate(all="raise"):  # nothing is divided by nothing, so numpy warns of nothing
        found = recalls(matrices)
    assert found[0].tolist() == [0.5, 1.0] and math.isnan(found[1, 0]) and found[1, 1] == 0.75


def test_unknown_and_missing_labels_are_refused():
    with pytest.raises(CorpusError, match="'bored' is none of the classes angry, happy, neutral, sad"):
        confusion_matrix(["angry", "bored"], ["angry", "sad"], CLASSES)
    with pytest.raises(CorpusError, match="2 true labels but 1 predictions"):
        confusion_matrix(["angry", "sad"], ["sad"], CLASSES)
