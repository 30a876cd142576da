"""The `speech_emotion` task: crops, buckets, balance, and every utterance scored once."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from fairseq.logging import metrics
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from support import CLASSES

import flea_fairseq.tasks  # noqa: F401  registers the criterions
from flea_fairseq.criterions.emotion_cross_entropy import EmotionCrossEntropy
from flea_fairseq.data.emotion_dataset import EmotionDataset
from flea_fairseq.data.manifest import Manifest, read_labels, read_manifest, read_units
from flea_fairseq.errors import CorpusError, ExperimentError, FormatError
from flea_fairseq.tasks.speech_emotion import SpeechEmotionConfig, SpeechEmotionTask, check_scored_once


def task(data, tmp_path, **changes) -> SpeechEmotionTask:
    cfg = SpeechEmotionConfig(data=str(data), train_subset="train", save_dir=str(tmp_path), seed=1, **changes)
    return SpeechEmotionTask.setup_task(cfg)


def dataset(fold_folder, split="train", **options) -> EmotionDataset:
    labels = [CLASSES.index(label) for label in read_labels(fold_folder / f"{split}.emo")]
    return EmotionDataset(read_manifest(fold_folder / f"{split}.tsv"), labels, **options)


def test_training_cuts_and_evaluation_does_not(fold_folder, tmp_path):
    made = task(fold_folder, tmp_path, max_seconds=0.7)
    made.load_dataset("train"), made.load_dataset("valid")
    names, frames = read_manifest(fold_folder / "valid.tsv").names, read_manifest(fold_folder / "valid.tsv").frames
    for i, (name, samples) in enumerate(zip(names, frames)):
        expected, _ = soundfile.read(fold_folder / name, dtype="float32")
        assert len(expected) == samples
        assert np.array_equal(made.datasets["valid"][i]["source"].numpy(), expected)
    for i, name in enumerate(read_manifest(fold_folder / "train.tsv").names):
        expected, _ = soundfile.read(fold_folder / name, dtype="float32")
        assert np.array_equal(made.datasets["train"][i]["source"].numpy(), expected[:11200])


def test_a_random_crop_depends_on_seed_epoch_and_utterance_alone(fold_folder):
    options = dict(max_seconds=0.3, random_crop=True, seed=5)
    one, other = dataset(fold_folder, **options), dataset(fold_folder, **options)
    one.set_epoch(3), other.set_epoch(3)
    for index in (4, 0, 7):
        assert torch.equal(one[index]["source"], other[index]["source"])
    first = one[4]["source"]
    one.set_epoch(4)
    assert len(first) == 4800 and not torch.equal(first, one[4]["source"])


def test_clusters_stay_beside_the_audio_they_are_of(labelled, tmp_path):
    made = task(labelled, tmp_path, max_seconds=0.3, crop="random", label_dir=str(labelled), labels=["km50"])
    made.load_dataset("train"), made.load_dataset("valid")
    train, expected = made.datasets["train"], read_units(labelled / "train.km50")
    for index in (4, 0, 7):
        whole, _ = soundfile.read(train.paths[index], dtype="float32")
        part, source = train[index]["units"], train[index]["source"].numpy()
        start = next(i for i in range(len(whole) - 4799) if np.array_equal(whole[i : i + 4800], source))
        assert len(part) == 14 and start > 0  # (4800 - 400) // 320 + 1
        assert part.tolist() == expected[index][round(start / 320) :][:14].tolist()
    batch = train.collater([train[0], train[1]])
    assert batch["units"].shape == (2, 14) and "units" not in batch["net_input"]
    assert "units" not in made.datasets["valid"][0]


def test_shares_of_emotions_are_counted_from_training_labels(labelled, tmp_path):
    made = task(labelled, tmp_path, label_dir=str(labelled), labels=["km50"])
    labels, rows = read_labels(labelled / "train.emo"), read_units(labelled / "train.km50")
    shares = made.emotion_shares()
    frames = {name: np.concatenate([row for row, label in zip(rows, labels) if label == name]) for name in CLASSES}
    for cluster in range(50):
        likely = [float(np.mean(frames[name] == cluster)) for name in CLASSES]
        expected = [value / sum(likely) if sum(likely) else 0.0 for value in likely]
        assert shares[:, cluster].tolist() == pytest.approx(expected)


def test_clusters_that_do_not_fit_are_refused(fold_folder, labelled, tmp_path):
    with pytest.raises(ExperimentError, match="expected one set of clusters"):
        task(labelled, tmp_path, label_dir=str(labelled), labels=["km50", "km100"])
    with pytest.raises(ExperimentError, match=r"task.label_dir is .*, but task.labels is empty: .*=\[km50\]"):
        task(labelled, tmp_path, label_dir=str(labelled))
    with pytest.raises(FormatError, match="ssl.km50: has no frames of 'utterance_train0' and 23 other utterances"):
        task(fold_folder, tmp_path, label_dir=str(fold_folder), labels=["km50"])


def test_normalize_gives_zero_mean_and_unit_variance_of_the_whole_waveform(fold_folder):
    source = dataset(fold_folder, "valid", normalize=True)[2]["source"]
    assert abs(source.mean()) < 1e-5 and abs(source.std(unbiased=False) - 1) < 1e-3


def test_balance_draws_every_class_equally_often():
    manifest = Manifest(root=Path("/"), names=tuple(f"{i}.wav" for i in range(20)), frames=(16000,) * 20)
    targets = [0] * 14 + [1] * 4 + [2] * 2
    made = EmotionDataset(manifest, targets, shuffle=True, balance=True, seed=1)
    order = made.ordered_indices()
    drawn = np.bincount(np.array(targets)[order])
    assert len(order) == 20 and drawn.max() - drawn.min() <= 1
    counts = np.bincount(order, minlength=20)
    for label in range(3):  # a small class is repeated evenly
        members = counts[np.array(targets) == label]
        assert members.max() - members.min() <= 1
    assert sorted(EmotionDataset(manifest, targets, shuffle=True, seed=1).ordered_indices()) == list(range(20))


def test_batches_hold_utterances_of_near_equal_length():
    rng = np.random.default_rng(0)
    frames = tuple(int(n) for n in rng.integers(8000, 160000, 200))
    manifest = Manifest(root=Path("/"), names=tuple(f"{i}.wav" for i in range(200)), frames=frames)
    made = EmotionDataset(manifest, [0] * 200, shuffle=True, seed=1)
    first, lengths = made.ordered_indices(), np.array(frames)
    assert (np.abs(np.diff(lengths[first])) < 16000).all()
    made.set_epoch(2)
    assert not np.array_equal(first, made.ordered_indices())


@pytest.mark.parametrize("batch_size", [1, 4, 5, 64])
def test_every_utterance_is_scored_exactly_once(fold_folder, tmp_path, batch_size):
    """13 utterances: fairseq's own default of required_batch_size_multiple=8 would leave five out at batch size 64."""
    made = task(fold_folder, tmp_path)
    made.load_dataset("valid")
    iterator = made.get_batch_iterator(made.datasets["valid"], max_sentences=batch_size, required_batch_size_multiple=8)
    scored = [int(i) for batch in iterator.next_epoch_itr(shuffle=False) for i in batch["id"]]
    assert sorted(scored) == list(range(13))


def test_a_lost_or_repeated_utterance_is_refused():
    check_scored_once([[0, 1], [2]], 3)
    with pytest.raises(CorpusError, match="1 are left out"):
        check_scored_once([[0, 1]], 3)
    with pytest.raises(CorpusError, match="1 appear more than once"):
        check_scored_once([[0, 1], [2, 1]], 3)


def test_wrong_labels_name_the_file_and_the_line(fold_folder, tmp_path):
    for name in ("dict.emo.txt", "train.tsv", "train.emo"):
        (tmp_path / name).write_text((fold_folder / name).read_text())
    lines = (tmp_path / "train.emo").read_text().splitlines()
    (tmp_path / "train.emo").write_text("\n".join([*lines[:2], "bored", *lines[3:]]) + "\n")
    with pytest.raises(FormatError, match=r"train.emo, line 3: 'bored'"):
        task(tmp_path, tmp_path).load_dataset("train")
    (tmp_path / "train.emo").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(FormatError, match="23 labels for the 24 utterances"):
        task(tmp_path, tmp_path).load_dataset("train")


class Fixed(torch.nn.Module):
    """A model whose logits are given."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, utterances, **_):
        return {"logits": self.logits[utterances]}


def batches(logits, target, size):
    for start in range(0, len(target), size):
        ids = torch.arange(start, min(start + size, len(target)))
        yield {"id": ids, "net_input": {"utterances": ids}, "target": target[ids]}


def test_scores_over_batches_and_processes_equal_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (101,), generator=generator)  # class 3 is absent from the truth
    logits = torch.randn(101, 4, generator=generator) + 2 * torch.nn.functional.one_hot(target, 4)
    criterion = EmotionCrossEntropy(SimpleNamespace(classes=CLASSES), 0.0)
    logs = [criterion(Fixed(logits), batch)[2] for batch in batches(logits, target, 8)]
    with metrics.aggregate(new_root=True) as aggregator:  # fairseq reduces once a batch, over processes
        for i in range(0, len(logs), 2):
            EmotionCrossEntropy.reduce_metrics(logs[i : i + 2])
    values, predicted = aggregator.get_smoothed_values(), logits.argmax(1)
    assert values["ua"] == pytest.approx(balanced_accuracy_score(target, predicted), abs=1e-4)
    assert values["wa"] == pytest.approx(accuracy_score(target, predicted), abs=1e-4)
    assert values["macro_f1"] == pytest.approx(f1_score(target, predicted, average="macro"), abs=1e-4)
    assert type(values["ua"]) is float


def test_loss_with_weights_and_smoothing_equals_torch():
    target = torch.tensor([0, 1, 2, 3, 3])
    logits = torch.randn(5, 4)
    weights = [1.0, 2.0, 0.5, 3.0]
    criterion = EmotionCrossEntropy(SimpleNamespace(classes=CLASSES), 0.1, weights)
    loss, size, _ = criterion(Fixed(logits), next(batches(logits, target, 5)))
    peer = torch.nn.CrossEntropyLoss(weight=torch.tensor(weights), label_smoothing=0.1)
    assert loss / size == pytest.approx(float(peer(logits, target)), rel=1e-5)
    halved, _, _ = criterion.half()(Fixed(logits.half()), next(batches(logits, target, 5)))  # as fairseq's fp16 does
    assert halved / size == pytest.approx(float(loss / size), rel=1e-2)
    with pytest.raises(ExperimentError, match="2 values for 4 classes"):
        EmotionCrossEntropy(SimpleNamespace(classes=CLASSES), 0.0, [1.0, 2.0])
