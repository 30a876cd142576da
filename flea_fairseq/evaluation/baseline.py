"""What any system must beat: logistic regression on the mean and deviation of an utterance's log-mel spectrogram."""

from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchaudio.transforms import MelSpectrogram
from tqdm import tqdm

from flea_fairseq.data.audio import SAMPLE_RATE
from flea_fairseq.data.manifest import read_dictionary, utterance_id
from flea_fairseq.evaluation.predictions import Predictions, write_predictions
from flea_fairseq.evaluation.splits import read_split, read_utterance

MELS = 80
SEED = 1


def baseline(train: Path, test: Path, output: Path) -> Predictions:
    """Fit on `train` (.tsv, with .emo and dict.emo.txt beside it), predict `test`, and write predictions.tsv.

    Raises CorpusError, FormatError, AudioError.
    """
    classes = read_dictionary(Path(train).parent / "dict.emo.txt")
    train_split, train_truth = read_split(train, classes)
    test_split, test_truth = read_split(test, classes)
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000, random_state=SEED)
    )
    model.fit(statistics(train_split.paths(), "train"), train_truth)
    probabilities = np.zeros((len(test_truth), len(classes)))  # a class that nobody in train shows keeps 0
    columns = [classes.index(label) for label in model.classes_]
    probabilities[:, columns] = model.predict_proba(statistics(test_split.paths(), "test"))
    ids = tuple(utterance_id(name) for name in test_split.names)
    predictions = Predictions(ids, tuple(test_truth), tuple(classes), probabilities)
    write_predictions(output, predictions)
    return predictions


def statistics(paths: list[Path], name: str) -> np.ndarray:
    """Mean and standard deviation over time of each file's log-mel bands: (N, 2 * 80) float32."""
    mel = MelSpectrogram(sample_rate=SAMPLE_RATE, n_fft=400, hop_length=160, n_mels=MELS)
    rows = []
    for path in tqdm(paths, desc=f"baseline {name}", unit="utt", disable=None):
        spectrum = torch.log(mel(torch.from_numpy(read_utterance(path))) + 1e-6)
        rows.append(torch.cat([spectrum.mean(1), spectrum.std(1, correction=0)]).numpy())
    return np.stack(rows)
