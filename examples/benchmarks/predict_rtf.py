"""From a wav file on disk to an emotion, one utterance at a time: our classifier against transformers'.

Both hold the same random weights of HuBERT-base's size with mean pooling, and their logits must agree. transformers
runs at its best: evaluation mode, inference mode, torch's fused attention, no feature extractor in between. Loading
the model is timed apart. Real-time factor: seconds of computing for one second of audio.
"""

import time
from pathlib import Path

import click
import numpy as np
import soundfile
import torch
from harness import EMODB, begin, column, conclude, report_arm, share, speed_up, take_turns, write_listing

from flea_fairseq.data.manifest import read_manifest

CLASSES = ("angry", "happy", "neutral", "sad")
TOLERANCE = 1e-4  # of the logits


def prepared(work: Path, corpus: Path, utterances: int) -> float:
    """Write models and wav files into `work`; the seconds of audio. The utterances are spread over the corpus."""
    listing = read_manifest(write_listing(corpus, work / "all.tsv"))
    paths = listing.paths()[:: max(1, len(listing.names) // utterances)][:utterances]
    (work / "wav").mkdir(exist_ok=True)
    for old in (work / "wav").glob("*.wav"):
        old.unlink()
    for path in paths:
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(work / "wav" / f"{path.stem}.wav", samples, rate)
    write_models(work)
    return sum(soundfile.info(path).duration for path in paths)


def write_models(work: Path) -> None:
    """transformers' HubertForSequenceClassification, and the same function as a `flea_classifier`.

    transformers projects each frame, takes the mean and projects again; both are linear, so our one layer is their
    product.
    """
    from transformers import HubertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor

    from flea_fairseq.models.checkpoints import build_encoder, read_checkpoint
    from flea_fairseq.models.flea_classifier import FleaClassifier, FleaClassifierConfig

    torch.manual_seed(1)
    theirs = HubertForSequenceClassification(HubertConfig(num_labels=len(CLASSES))).eval()
    torch.nn.init.normal_(theirs.projector.weight, std=0.1)  # so that logits are of the order of 1
    torch.nn.init.normal_(theirs.classifier.weight, std=0.1)
    theirs.save_pretrained(work / "transformers")
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(work / "transformers")
    config = FleaClassifierConfig(classes=list(CLASSES), pooling="mean", seed=1)
    ours = FleaClassifier(build_encoder(read_checkpoint(work / "transformers")), config)
    with torch.no_grad():
        ours.head.weight.copy_(theirs.classifier.weight @ theirs.projector.weight)
        ours.head.bias.copy_(theirs.classifier.weight @ theirs.projector.bias + theirs.classifier.bias)
    stored = {**ours.stored_config(), "_name": "flea_classifier", "pooling": "mean"}
    torch.save({"cfg": {"model": stored}, "model": ours.state_dict()}, work / "flea.pt")


def ours(work: Path):
    """Load our model; gives a function from a file to its logits, a list of numbers."""
    from flea_fairseq.evaluation.evaluate import classify
    from flea_fairseq.models.checkpoints import load_classifier
    from flea_fairseq.models.device import on_best_device

    model = on_best_device(load_classifier(work / "flea.pt"))
    return lambda path: classify(model, path)["logits"][0].tolist()


def peer(work: Path):
    """The same of transformers."""
    from transformers import HubertForSequenceClassification

    from flea_fairseq.models.device import best_device

    device = best_device()
    model = HubertForSequenceClassification.from_pretrained(work / "transformers", attn_implementation="sdpa")
    model = model.eval().to(device)

    def predict(path: Path) -> list[float]:
        samples, _ = soundfile.read(path, dtype="float32")
        with torch.inference_mode():
            return model(torch.from_numpy(samples)[None].to(device)).logits[0].tolist()

    return predict


ARMS = {"ours": ours, "peer": peer}


def run(arm: str, work: Path) -> None:
    start = time.perf_counter()
    predict = ARMS[arm](work)
    loading = time.perf_counter() - start
    paths = sorted((work / "wav").glob("*.wav"))
    predict(paths[0])  # libraries prepare themselves in the first call
    start = time.perf_counter()
    logits = [predict(path) for path in paths]
    report_arm(seconds=time.perf_counter() - start, loading=loading, logits=logits)


@click.command(help=__doc__)
@click.option(
    "--work", type=click.Path(path_type=Path), default="work/benchmarks/predict_rtf", help="for models and wav files"
)
@click.option("--corpus", type=click.Path(path_type=Path), default=EMODB, help="folder of 16 kHz recordings")
@click.option("--utterances", default=60)
@click.option("--runs", default=3)
@click.option("--arm", nargs=2, hidden=True)
def main(work: Path, corpus: Path, utterances: int, runs: int, arm: tuple | None) -> None:
    if arm:
        return run(arm[0], Path(arm[1]))
    work = work.resolve()
    audio = prepared(work, corpus, utterances)
    begin("predict_rtf", utterances=utterances, audio_seconds=round(audio, 1), runs=runs, seed=1)
    results = take_turns(__file__, {name: (name, work) for name in ARMS}, runs)
    a, b = results["ours"], results["peer"]
    difference = np.abs(np.subtract(a[0]["logits"], b[0]["logits"])).max()
    spread = np.std(b[0]["logits"], axis=0).max()
    print(f"logits: largest difference {difference:.1e}, deviation between utterances {spread:.1e}")
    if not difference <= min(TOLERANCE, 0.1 * spread):
        raise SystemExit("the two do not compute the same; nothing is compared")
    factors = [[seconds / audio for seconds in column(rows, "seconds")] for rows in (a, b)]
    conclude(
        "predict_rtf",
        [
            speed_up("wav to logits", column(a, "seconds"), column(b, "seconds"), 1.0),
            share("real-time factor", "", *factors),
            share("loading the model, imports included", "s", column(a, "loading"), column(b, "loading")),
            share("peak memory", "MiB", column(a, "peak_mib"), column(b, "peak_mib")),
        ],
    )


if __name__ == "__main__":
    main()
