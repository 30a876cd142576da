"""One epoch of fine-tuning after the first: HuBERT's CNN frozen, mean pooling, EmoDB's four emotions, clips to 6 s.

Forward, backward, update and data loading (2 processes), without validation; batches of 64, fairseq's Adam, the
dropouts and masks of finetune.yaml. Every arm has the same weights and draws the same utterances.
- ours: `speech_emotion` and `flea_classifier` with length buckets and task.cnn_cache; what filling the cache costs, and
  the disk that it takes, are printed.
- fairseq: as the authors ran it: random order, padded batches, fairseq's own HuBERT with a padding mask, whose CNN is
  computed without gradients in every epoch.
- no_cache (one run): our model and task in the same random order, without the cache.
- micro (one run): ours, but a batch is four of a quarter's size, whose gradients are summed (optimization.update_freq):
  as many utterances an update, of lengths that are more alike.
Before anything is timed every arm computes the logits of one utterance alone: all must agree to 1e-4.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import harness
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from weights import write_hubert

SEED, FOLD, MAX_SECONDS = 1, "03-08", 6.0
WARM_UP, MICRO = 8, 4  # utterances of the update that is not timed; parts of a batch in "micro"
BAR = 1.8
DROPOUTS = dict(dropout=0.1, attention_dropout=0.1, activation_dropout=0.0, encoder_layerdrop=0.0, dropout_input=0.0)
MASKS = dict(mask_prob=0.08, mask_length=10)
EMODB_SCRIPT = Path(__file__).resolve().parents[2] / "manifests/emodb.py"


def prepare(work: Path, corpus: Path, layers: int, utterances: int) -> None:
    """Write the weights, and one fold; utterances: of its training part (0: all)."""
    from flea_fairseq.data.folds import folds
    from flea_fairseq.data.manifest import Manifest, read_labels, read_manifest, write_labels, write_manifest

    write_hubert(work / "hubert.pt", encoder_layers=layers)
    subprocess.run([sys.executable, EMODB_SCRIPT, corpus, "--output", work / "corpus.tsv"], check=True)
    folds(work / "corpus.tsv", work / "folds")
    if utterances:
        fold = work / "folds" / FOLD
        train, labels = read_manifest(fold / "train.tsv"), read_labels(fold / "train.emo")
        step = max(1, len(labels) // utterances)
        names, frames = train.names[::step][:utterances], train.frames[::step][:utterances]
        write_manifest(fold / "train.tsv", Manifest(train.root, names, frames))
        write_labels(fold / "train.emo", labels[::step][:utterances])


def arm(system: str, work: Path, batch_size: int) -> None:
    """Train one update, then a whole epoch that is timed."""
    cache = Path(tempfile.mkdtemp(dir=work))
    if system == "fairseq":
        task, model = fairseq_arm(work)
    else:
        task, model = our_arm(work, "" if system == "no_cache" else str(cache))
    started = time.perf_counter()
    task.load_dataset("train")
    fill, dataset = time.perf_counter() - started, task.datasets["train"]
    if system in ("fairseq", "no_cache"):
        in_random_order(dataset)
    with torch.no_grad():
        torch.manual_seed(SEED)
        model.head.weight.normal_(), model.head.bias.zero_()
        logit = float(model.eval()(**dataset.collater([dataset[0]])["net_input"])["logits"][0, 0])
    from fairseq.data.iterators import GroupedIterator
    from fairseq.optim.adam import Adam

    optimiser = Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=1e-5)
    model.train()
    update(model, optimiser, [next(batches(task, dataset, WARM_UP, 1))])
    start, parts, lengths = time.perf_counter(), MICRO if system == "micro" else 1, []
    for group in GroupedIterator(batches(task, dataset, batch_size // parts, 2), parts):
        lengths += [batch["net_input"]["lengths"] for batch in group]
        update(model, optimiser, group)
    seconds = time.perf_counter() - start
    used, padded = (sum(int(f(n)) for n in lengths) for f in (torch.sum, lambda n: len(n) * n.max()))
    disk = sum(path.stat().st_blocks * 512 for path in cache.rglob("*.safetensors")) / 2**20
    own = dict(fill_s=fill, cache_mib=disk) if system == "ours" else {}
    harness.report_arm(seconds=seconds, logit=logit, padding=1 - used / padded, audio_s=used / 16000, **own)


def our_arm(work: Path, cache: str):
    """The task, which has not read its data yet, and `flea_classifier`."""
    from omegaconf import OmegaConf

    import flea_fairseq.tasks  # noqa: F401  what fairseq imports from common.user_dir
    from flea_fairseq.models.flea_classifier import FleaClassifierConfig
    from flea_fairseq.tasks.speech_emotion import SpeechEmotionConfig, SpeechEmotionTask

    options = dict(train_subset="train", save_dir=str(work / "run"), seed=SEED, max_seconds=MAX_SECONDS)
    task = SpeechEmotionTask.setup_task(
        SpeechEmotionConfig(data=str(work / "folds" / FOLD), cnn_cache=cache, **options)
    )
    config = FleaClassifierConfig(
        _name="flea_classifier", init_checkpoint=str(work / "hubert.pt"), pooling="mean", seed=SEED, **DROPOUTS, **MASKS
    )
    return task, task.build_model(OmegaConf.structured(config))


def fairseq_arm(work: Path):
    """fairseq's plain task, with the waveforms of the training part, and its HuBERT with a mean and a linear layer.

    Nothing is imported here that lets our own training keep its memory (flea_fairseq.tasks).
    """
    from fairseq.tasks import FairseqTask

    from flea_fairseq.data.emotion_dataset import EmotionDataset
    from flea_fairseq.data.manifest import read_dictionary, read_labels, read_manifest

    fold = work / "folds" / FOLD
    classes = read_dictionary(fold / "dict.emo.txt")
    targets = [classes.index(label) for label in read_labels(fold / "train.emo")]
    options = dict(max_seconds=MAX_SECONDS, shuffle=True, balance=True, seed=SEED)

    class PlainTask(FairseqTask):
        def load_dataset(self, split: str) -> None:
            self.datasets[split] = EmotionDataset(read_manifest(fold / f"{split}.tsv"), targets, **options)

    return PlainTask(None), Peer(work / "hubert.pt", len(classes))


class Peer(nn.Module):
    """fairseq's HubertModel, fed a padding mask; dropout and mean over its valid frames; linear."""

    def __init__(self, path: Path, classes: int) -> None:
        super().__init__()
        from fairseq.models.hubert.hubert import HubertConfig, HubertModel
        from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig

        from flea_fairseq.models.checkpoints import load_tensors

        content = load_tensors(path)
        layers, labels = content["cfg"]["model"]["encoder_layers"], content["task_state"]["dictionaries"]
        config = HubertConfig(label_rate=50.0, encoder_layers=layers, feature_grad_mult=0.0, **DROPOUTS, **MASKS)
        self.hubert = HubertModel(config, HubertPretrainingConfig(data="", labels=["km"], label_rate=50.0), labels)
        self.hubert.load_state_dict(content["model"])
        self.hubert.feature_extractor.requires_grad_(False)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(config.encoder_embed_dim, classes)

    def forward(self, source: Tensor, lengths: Tensor, utterances: Tensor) -> dict[str, Tensor]:
        padding = torch.arange(source.size(1)) >= lengths.unsqueeze(1)
        x, padding = self.hubert.extract_features(source, padding, mask=self.training)
        valid = (~padding).unsqueeze(-1)
        return {"logits": self.head((self.dropout(x) * valid).sum(1) / valid.sum(1))}


def in_random_order(dataset) -> None:
    """The same utterances in every epoch, but without buckets."""
    buckets = dataset.ordered_indices

    def ordered_indices() -> np.ndarray:
        return np.random.default_rng((SEED, dataset.epoch.get())).permutation(buckets())

    dataset.ordered_indices = ordered_indices


def batches(task, dataset, batch_size: int, epoch: int):
    """An epoch's batches, as fairseq's trainer asks for them."""
    options = dict(max_sentences=batch_size, required_batch_size_multiple=1, seed=SEED, num_workers=2, epoch=epoch)
    return task.get_batch_iterator(dataset, **options).next_epoch_itr(shuffle=True)


def update(model: nn.Module, optimiser, group: list[dict]) -> None:
    """One update on the mean loss of a group of batches."""
    utterances = sum(len(batch["target"]) for batch in group)
    for batch in group:
        logits = model(**batch["net_input"])["logits"]
        (F.cross_entropy(logits, batch["target"], reduction="sum") / utterances).backward()
    optimiser.step()
    optimiser.zero_grad()


@click.command(epilog="Example: python examples/benchmarks/finetune_epoch.py --runs 3 --layers 12")
@click.option("--corpus", default=harness.EMODB, type=click.Path(path_type=Path), help="EmoDB's folder.")
@click.option("--runs", default=3, show_default=True, help="Processes of each arm; the median counts.")
@click.option("--layers", default=6, show_default=True, help="Transformer layers; HuBERT-base has 12.")
@click.option("--batch-size", default=64, show_default=True, help="Utterances an update.")
@click.option("--utterances", default=0, help="Of the training part; for a short trial (0: all).")
@click.option("--arm", "arm_values", nargs=3, type=(str, click.Path(path_type=Path), int), hidden=True)
def main(corpus: Path, runs: int, layers: int, batch_size: int, utterances: int, arm_values) -> None:
    """Time one epoch of fine-tuning against the same classifier without buckets and cache."""
    if arm_values:
        return arm(*arm_values)
    threads = torch.get_num_threads()
    settings = dict(seed=SEED, runs=runs, layers=layers, batch_size=batch_size, fold=FOLD, threads=threads)
    harness.begin("finetune_epoch", **settings, utterances=utterances or "all")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work, corpus, layers, utterances)
        arms = {name: (name, work, batch_size) for name in ("ours", "fairseq", "no_cache", "micro")}
        done = harness.take_turns(__file__, {name: arms[name] for name in ("ours", "fairseq")}, runs)
        done |= harness.take_turns(__file__, {name: arms[name] for name in ("no_cache", "micro")}, 1)
    harness.conclude("finetune_epoch", compare(done))


def compare(done: dict[str, list[dict]]) -> list[harness.Row]:
    """The rows, after what the first epoch costs. Ends the benchmark where the logits or the utterances differ."""
    first = {name: runs[0] for name, runs in done.items()}
    ours = first["ours"]
    for name, values in first.items():
        if abs(values["logit"] - ours["logit"]) > 1e-4 or values["audio_s"] != ours["audio_s"]:
            raise SystemExit(f"ours and {name} differ: {ours}, {values}")
    fill = statistics.median(harness.column(done["ours"], "fill_s"))
    shares = ", ".join(f"{name} {values['padding']:.3f}" for name, values in first.items())
    print(f"\nfilling the cache, once: {fill:.1f} s; it takes {ours['cache_mib']:.1f} MiB on disk")
    print(f"share of padding: {shares}; {ours['audio_s']:.0f} s of audio an epoch")
    rows = []
    for one, peer, bar in (("ours", "fairseq", BAR), ("ours", "no_cache", None), ("micro", "fairseq", None)):
        runs = list(zip(done[one], done[peer]))  # those that both have
        seconds, peaks = ([[pair[side][key] for pair in runs] for side in (0, 1)] for key in ("seconds", "peak_mib"))
        rows.append(harness.speed_up(f"epoch, {one}, peer {peer}", *seconds, bar))
        rows.append(harness.share(f"peak memory, {one}, peer {peer}", "MiB", *peaks))
    return rows


if __name__ == "__main__":
    main()
