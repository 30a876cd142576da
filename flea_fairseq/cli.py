"""`flea <verb>`: one verb a step, each a thin call of the function of the same name.

Steps are imported when their verb runs: torch and fairseq take seconds, and `flea --help` must not pay them.
"""

import logging
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from flea_fairseq import __version__
from flea_fairseq.allocator import end_at_once
from flea_fairseq.data.files import explained
from flea_fairseq.errors import FleaError, printable
from flea_fairseq.workflow.devices import take_gpus

Body = Callable[..., None]  # of a verb
PATH = click.Path(path_type=Path)
PROTOCOLS = ["inner", "paper", "authors", "oracle"]


class Verbs(click.Group):
    """Shows what the user can mend in one line, without a traceback."""

    def invoke(self, context: click.Context) -> object:
        take_gpus()
        try:
            return super().invoke(context)
        except FleaError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(getattr(error, "status", 1))
        except OSError as error:  # a file that may not be read
            if error.errno is None or isinstance(error, BrokenPipeError):
                raise
            where = error.filename or "standard output"
            click.echo(printable(f"error: {where}: {explained(error.errno)}"), err=True)
            sys.exit(1)


def verb(name: str, example: str) -> Callable[[Body], click.Command]:
    """A command of the group, with an example at the end of its help."""
    return flea.command(name, epilog=f"Example: flea {name} {example}", context_settings={"show_default": True})


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def flea() -> None:
    """Speech emotion recognition with frame-level alignment (FLEA) on fairseq."""


def frame_options(command: Body) -> Body:
    """What `fit` and `cluster` take frames from."""
    for option in (
        click.option(
            "--bf16", is_flag=True, help="Encode in half precision: faster on hardware made for it, some labels differ."
        ),
        click.option("--mfcc", is_flag=True, help="39-dimensional MFCC instead of a model."),
        click.option("--layer", "layers", type=click.IntRange(min=1), multiple=True, help="Transformer layer, from 1."),
        click.option("--checkpoint", type=PATH, help="fairseq .pt (also our own) or Hugging Face folder."),
    ):
        command = option(command)
    return command


def fit_options(command: Body) -> Body:
    """How `fit` and `cluster` fit k-means."""
    for option in (
        click.option("--iterations", type=click.IntRange(min=1), default=50),
        click.option("--restarts", type=click.IntRange(min=1), default=1, help="Keep the best of so many."),
        click.option("--seed", type=int, default=1),
        click.option(
            "--max-frames",
            type=click.IntRange(min=1),
            help="Fit on utterances drawn at random that make so many frames.  [default: as many as fit 2 GiB: 2^31 / "
            "(4 bytes x dimensions x layers), 699,050 for one layer of 768, 3.9 hours of speech]",
        ),
    ):
        command = option(command)
    return command


@verb("run", "examples/emodb/experiment.yaml --corpus /data/emodb --output work/emodb --cores 2")
@click.argument("experiment", type=PATH)
@click.option("--corpus", type=PATH, required=True, help="Root folder of the recordings.")
@click.option(
    "--output", type=PATH, required=True, help="Folder for everything that is made; a second run goes on there."
)
@click.option("--cores", type=click.IntRange(min=1), default=1, help="CPU cores: folds run side by side.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, help="GPUs of this machine, for steps side by side.")
@click.option("--profile", default="", help="Run steps as Slurm jobs: a folder like examples/slurm/profile.")
@click.option("--shards", type=click.IntRange(min=1), default=1, help="Label a split in so many jobs.")
@click.option("--dry-run", is_flag=True, help="Only print the steps (after reading and splitting the corpus).")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a key of the experiment file.")
def run(
    experiment: Path, corpus: Path, output: Path, cores: int, gpus: int, profile: str, shards: int, dry_run: bool,
    changes: tuple[str, ...],
) -> None:  # fmt: skip
    """Run every phase of an experiment for every fold, and report."""
    from flea_fairseq.workflow.engine import Means
    from flea_fairseq.workflow.run import run

    run(experiment, corpus, output, Means(cores, profile, gpus, shards), dry_run, changes)
    if not dry_run:
        click.echo((output / "logs/report.log").read_text(encoding="utf-8"))
        click.echo(f"{output / 'results.json'}\n{output / 'report.html'}")


@verb("plan", "examples/iemocap/table1.yaml --hours-of-audio 7 --gpus 8")
@click.argument("experiment", type=PATH)
@click.option("--hours-of-audio", "hours", type=click.FloatRange(min=0, min_open=True), required=True)
@click.option("--gpus", type=click.IntRange(min=0), default=1, help="Side by side; 0: CPU machines.")
@click.option("--folds", type=click.IntRange(min=2), default=5, help="Where the experiment names none.")
def plan(experiment: Path, hours: float, gpus: int, folds: int) -> None:
    """Expected time, disk and GPU-hours of each step, from measured speeds."""
    from flea_fairseq.workflow.plan import plan

    click.echo(plan(experiment, hours, gpus, folds))


@verb("status", "work/emodb")
@click.argument("output", type=PATH)
def status(output: Path) -> None:
    """How far flea run is in its --output, and what its steps are doing."""
    from flea_fairseq.workflow.status import status

    click.echo(status(output))


@verb("folds", "corpus.tsv folds --protocol inner")
@click.argument("corpus", type=PATH)
@click.argument("output", type=PATH)
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="inner", help="Who selects, who is tested.")
@click.option("--n-folds", type=click.IntRange(min=2), default=5, help="Only for a corpus without sessions.")
@click.option("--seed", type=int, default=1, help="Only for a corpus without sessions.")
@click.option("--transductive", is_flag=True, help="Let pretraining and k-means see all audio.")
@click.option("--replace", is_flag=True, help="Remove the folds of another split that are there.")
def folds(
    corpus: Path, output: Path, protocol: str, n_folds: int, seed: int, transductive: bool, replace: bool
) -> None:
    """Split a corpus.tsv into the folds of a protocol."""
    from flea_fairseq.data.folds import folds

    click.echo(", ".join(folds(corpus, output, protocol, n_folds, seed, transductive, replace)))


@verb("extract", "fold/ssl.tsv features --checkpoint tapt.pt --layer 9 --layer 11")
@click.argument("manifest", type=PATH)
@click.argument("output", type=PATH)
@click.option("--checkpoint", type=PATH, help="fairseq .pt (also our own) or Hugging Face folder.")
@click.option("--layer", "layers", type=click.IntRange(min=1), multiple=True, help="Transformer layer, from 1.")
@click.option("--mfcc", is_flag=True, help="39-dimensional MFCC instead of a model.")
@click.option("--shard", type=click.IntRange(min=0), default=0, help="Which part of the manifest.")
@click.option("--shards", type=click.IntRange(min=1), default=1, help="How many parts.")
def extract(
    manifest: Path, output: Path, checkpoint: Path | None, layers: tuple[int, ...], mfcc: bool, shard: int, shards: int
) -> None:
    """Write the frames of layers into OUTPUT/l<layer> (or OUTPUT/mfcc), in fairseq's feature files."""
    from flea_fairseq.clustering.extract import extract

    extract(manifest, output, checkpoint, layers, mfcc, shard, shards)


@verb("kmeans", "features ssl kmeans.npz --clusters 50")
@click.argument("features", type=PATH)
@click.argument("split")
@click.argument("output", type=PATH)
@click.option("--clusters", type=click.IntRange(min=1), required=True, help="K.")
@click.option("--shards", type=click.IntRange(min=1), default=1, help="How many feature files.")
@click.option("--seed", type=int, default=1)
@click.option("--restarts", type=click.IntRange(min=1), default=1, help="Keep the best of so many.")
@click.option("--iterations", type=click.IntRange(min=1), default=50)
@click.option("--max-frames", type=click.IntRange(min=1), help="Fit on a sample of so many frames.")
@click.option("--gpu", is_flag=True, help="Assign on a GPU (needs faiss-gpu).")
def kmeans(
    features: Path, split: str, output: Path, clusters: int, shards: int, seed: int, restarts: int, iterations: int,
    max_frames: int | None, gpu: bool,
) -> None:  # fmt: skip
    """Fit k-means on feature files."""
    from flea_fairseq.clustering.kmeans import kmeans

    kmeans(features, split, output, clusters, shards, seed, restarts, iterations, max_frames, gpu)


@verb("label", "features ssl fold/ssl.tsv kmeans.npz units")
@click.argument("features", type=PATH)
@click.argument("split")
@click.argument("manifest", type=PATH)
@click.argument("model", type=PATH)
@click.argument("output", type=PATH)
@click.option("--shards", type=click.IntRange(min=1), default=1, help="How many feature files.")
@click.option("--extension", default="km", help="Name of the label set, such as km50.")
def label(features: Path, split: str, manifest: Path, model: Path, output: Path, shards: int, extension: str) -> None:
    """Write the frame labels ({split}.km) and their dictionary that HuBERT pretraining reads."""
    from flea_fairseq.clustering.label import label

    label(features, split, manifest, model, output, shards, extension)


@verb("fit", "fold/ssl.tsv units --checkpoint tapt.pt --layer 9 --clusters 50 --clusters 100")
@click.argument("manifest", type=PATH)
@click.argument("output", type=PATH)
@frame_options
@fit_options
@click.option("--clusters", type=click.IntRange(min=1), multiple=True, required=True, help="K; several are fitted.")
def fit(manifest: Path, output: Path, **options: Any) -> None:
    """Fit k-means on recordings without storing frames, for flea cluster --fitted: OUTPUT/l<layer>/km<K>.npz."""
    from flea_fairseq.clustering.fit import fit

    fit(manifest, output, **options)


@verb("cluster", "fold/ssl.tsv fold/test.tsv units --checkpoint tapt.pt --layer 6 --layer 9 --clusters 50")
@click.argument("manifests", type=PATH, nargs=-1, required=True)
@click.argument("output", type=PATH)
@frame_options
@fit_options
@click.option("--clusters", type=click.IntRange(min=1), multiple=True, help="K; several give several label sets.")
@click.option("--kmeans", "kmeans_model", type=PATH, help="Assign with this model instead of fitting one.")
@click.option("--fitted", type=PATH, help="Assign with the models that flea fit wrote into this folder.")
@click.option(
    "--batch-seconds",
    type=click.FloatRange(min=0),
    help="Encode so much audio at once; labels are the same.  [default: 120 on a GPU; one by one on a CPU]",
)
def cluster(manifests: tuple[Path, ...], output: Path, **options: Any) -> None:
    """Label recordings without storing frames: fit on the first of MANIFESTS, assign all, write OUTPUT/l<layer>."""
    from flea_fairseq.clustering.cluster import cluster

    cluster(manifests, output, **options)


@verb("shard", "fold/ssl.tsv fold/shards --shards 8")
@click.argument("manifest", type=PATH)
@click.argument("output", type=PATH)
@click.option("--shards", type=click.IntRange(min=1), required=True, help="How many.")
def shard(manifest: Path, output: Path, shards: int) -> None:
    """Cut a manifest into several with as much audio each, to be labelled side by side."""
    from flea_fairseq.data.shard import shard

    click.echo("\n".join(map(str, shard(manifest, output, shards))))


@verb("merge", "fold/ssl.tsv units/parts units --shards 8 --label-set l9/km50")
@click.argument("manifests", type=PATH, nargs=-1, required=True)
@click.argument("parts", type=PATH)
@click.argument("output", type=PATH)
@click.option("--shards", type=click.IntRange(min=1), required=True, help="How many.")
@click.option("--label-set", "label_sets", multiple=True, required=True, help="Such as l9/km50.")
def merge(manifests: tuple[Path, ...], parts: Path, output: Path, shards: int, label_sets: tuple[str, ...]) -> None:
    """Join the frame labels of manifests' shards, if all are there and whole."""
    from flea_fairseq.clustering.merge import merge

    click.echo("\n".join(map(str, merge(manifests, parts, output, shards, label_sets))))


@verb(
    "train", "examples/config finetune folds/Ses01 model.pt --run-dir run --init aligned.pt optimization.max_epoch=10"
)
@click.argument("config_dir", type=PATH)
@click.argument("config")
@click.argument("data", type=PATH)
@click.argument("output", type=PATH)
@click.option("--run-dir", type=PATH, required=True, help="fairseq's checkpoints and log; a second run resumes there.")
@click.option("--init", type=PATH, help="Checkpoint to start from.")
@click.option("--labels", type=PATH, help="Folder of the frame labels.")
@click.option("--label-set", "label_sets", multiple=True, default=["km"], help="Which of them, such as km50.")
@click.option("--system", help="Put CONFIG_DIR/system/SYSTEM.yaml over the config.")
@click.option(
    "--cnn-cache",
    type=PATH,
    help="Folder that keeps the output of the frozen convolutions, for all trainings that are given it.",
)
@click.option("--processes", type=click.IntRange(min=1), default=1, help="Divide each update among so many, one a GPU.")
@click.option(
    "--launch",
    type=click.Choice(["local", "torchrun", "srun"]),
    default="local",
    help="What starts them: fairseq (GPUs only), torchrun (CPUs too), or the Slurm job that this runs in.",
)
@click.option(
    "--time-limit", type=float, help="Save and stop before so many seconds; exit status 75.  [default: the Slurm job's]"
)
@click.option(
    "--margin", type=float, help="Seconds of the limit for starting and saving.  [default: 240, or half of it]"
)
@click.argument("settings", nargs=-1)
def train(
    config_dir: Path, config: str, data: Path, output: Path, run_dir: Path, init: Path | None, labels: Path | None,
    label_sets: tuple[str, ...], system: str | None, cnn_cache: Path | None, processes: int, launch: str,
    time_limit: float | None, margin: float | None, settings: tuple[str, ...],
) -> None:  # fmt: skip
    """Train with fairseq-hydra-train; SETTINGS are KEY=VALUE, the value as YAML."""
    from flea_fairseq.workflow.launch import Launch
    from flea_fairseq.workflow.train import train

    how: dict[str, Any] = {"launch": Launch(processes, launch), "time_limit": time_limit, "margin": margin}
    train(config_dir, config, data, output, run_dir, init, labels, label_sets, system, settings, cnn_cache, **how)


@verb("evaluate", "model.pt fold/test.tsv predictions.tsv")
@click.argument("checkpoint", type=PATH)
@click.argument("manifest", type=PATH)
@click.argument("output", type=PATH)
def evaluate(checkpoint: Path, manifest: Path, output: Path) -> None:
    """Classify whole utterances and write predictions.tsv."""
    from flea_fairseq.evaluation.evaluate import evaluate

    evaluate(checkpoint, manifest, output)


@verb("baseline", "fold/train.tsv fold/test.tsv predictions.tsv")
@click.argument("train", type=PATH)
@click.argument("test", type=PATH)
@click.argument("output", type=PATH)
def baseline(train: Path, test: Path, output: Path) -> None:
    """Logistic regression on mean and deviation of log-mel."""
    from flea_fairseq.evaluation.baseline import baseline

    baseline(train, test, output)


@verb(
    "score-frames", "spans.rttm fold/test.tsv fold/ssl.tsv units/test.km units/ssl.km frames.json --checkpoint model.pt"
)
@click.argument("spans", type=PATH)
@click.argument("manifest", type=PATH)
@click.argument("train_manifest", type=PATH)
@click.argument("units", type=PATH)
@click.argument("train_units", type=PATH)
@click.argument("output", type=PATH)
@click.option("--checkpoint", type=PATH, help="Classifier whose attention is compared.")
def score_frames(
    spans: Path, manifest: Path, train_manifest: Path, units: Path, train_units: Path, output: Path,
    checkpoint: Path | None,
) -> None:  # fmt: skip
    """Compare cluster labels and attention with known emotional spans."""
    from flea_fairseq.evaluation.score_frames import score_frames

    score_frames(spans, manifest, train_manifest, units, train_units, checkpoint, output)


@verb("score-units", "fold/ssl.tsv units/ssl.km50 corpus.tsv units.json --clusters 50")
@click.argument("manifest", type=PATH)
@click.argument("units", type=PATH)
@click.argument("corpus", type=PATH)
@click.argument("output", type=PATH)
@click.option("--clusters", type=click.IntRange(min=1), required=True, help="K.")
def score_units(manifest: Path, units: Path, corpus: Path, output: Path, clusters: int) -> None:
    """How clusters are used, and what they know of emotions and speakers."""
    from flea_fairseq.evaluation.score_units import score_units

    score_units(manifest, units, corpus, output, clusters)


@verb("project", "fold/test.tsv hubert_base.pt align/model.pt projection.json --layer 9")
@click.argument("manifest", type=PATH)
@click.argument("before", type=PATH)
@click.argument("after", type=PATH)
@click.argument("output", type=PATH)
@click.option("--layer", type=click.IntRange(min=1), required=True, help="Transformer layer, from 1.")
@click.option("--frames", type=click.IntRange(min=1), default=2000, help="So many frames are drawn.")
@click.option("--seed", type=int, default=1)
def project(manifest: Path, before: Path, after: Path, output: Path, layer: int, frames: int, seed: int) -> None:
    """Bring frames of a layer to two dimensions, before and after phase 2."""
    from flea_fairseq.evaluation.project import project

    project(manifest, before, after, layer, output, frames, seed)


@verb("explain", "fold/test.tsv attention/model.pt mean/predictions.tsv attention/predictions.tsv attention.json")
@click.argument("manifest", type=PATH)
@click.argument("checkpoint", type=PATH)
@click.argument("mean", type=PATH)
@click.argument("attention", type=PATH)
@click.argument("output", type=PATH)
@click.option("--examples", type=click.IntRange(min=1), default=4, help="So many of each kind.")
def explain(manifest: Path, checkpoint: Path, mean: Path, attention: Path, output: Path, examples: int) -> None:
    """The utterances that attention pooling helped and hurt most, and where its weights lie."""
    from flea_fairseq.evaluation.explain import explain

    explain(manifest, checkpoint, mean, attention, output, examples)


@verb("compare", "work/emodb:flea_l3_k50_attention work/emodb:tapt")
@click.argument("results_a")
@click.argument("results_b")
def compare(results_a: str, results_b: str) -> None:
    """Compare two systems on the same utterances; each is a predictions.tsv, or a run's folder, a colon, a system."""
    from flea_fairseq.evaluation.compare import compare

    click.echo(compare(results_a, results_b)["table"])


@verb("report", "work/emodb")
@click.argument("run", type=PATH)
def report(run: Path) -> None:
    """Write results.json and report.html of a run's folder, and print the table."""
    from flea_fairseq.evaluation.report import report

    click.echo(report(run)["table"])


@verb("calibrate", "model.pt fold/valid.tsv calibrated.pt")
@click.argument("checkpoint", type=PATH)
@click.argument("manifest", type=PATH)
@click.argument("output", type=PATH)
def calibrate(checkpoint: Path, manifest: Path, output: Path) -> None:
    """Fit the temperature of a model's probabilities on a split it was not trained on; flea train does it by itself."""
    from flea_fairseq.evaluation.calibrate import calibrate

    found = calibrate(checkpoint, manifest, output)
    errors = [f"{100 * found['validation'][key]:.1f} %" for key in ("ece_before", "ece")]
    click.echo(
        f"{output}: temperature {found['temperature']:.3f}, calibration error {errors[0]} before, {errors[1]} now"
    )


def recognizer_options(command: Body) -> Body:
    """How `predict` and `app` hear a recording."""
    for option in (
        click.option(
            "--change", type=click.FloatRange(min=0), default=25.0, help="Price of a change of emotion, nats."
        ),
        click.option(
            "--silence", type=click.FloatRange(min=0), default=40.0, help="A pause is so many dB below the loud."
        ),
        click.option(
            "--context", type=float, help="Seconds that a frame may know of.  [default: as MODEL was trained]"
        ),
        click.option("--window", type=click.FloatRange(min=0.1), default=30.0, help="Seconds heard at once, at most."),
        click.option("--layer", type=click.IntRange(min=1), help="For k-means of a joblib file: the layer."),
        click.option("--kmeans-checkpoint", type=PATH, help="The model whose frames it clusters.  [default: MODEL]"),
        click.option("--kmeans", type=PATH, help="Name each frame's cluster by this k-means model."),
    ):
        command = option(command)
    return command


@verb("predict", "model.pt interview.wav recordings/ --format textgrid --output timelines --plot timelines")
@click.argument("model", type=PATH)
@click.argument("audio", nargs=-1, required=True)
@click.option("--format", type=click.Choice(["json", "csv", "textgrid", "rttm", "audacity"]), default="json")
@click.option("--output", type=PATH, help="Folder with a file for each recording.  [default: standard output]")
@click.option("--plot", "plots", type=PATH, help="Folder for a PNG of each timeline.")
@click.option("--frames/--no-frames", default=True, help="Whether JSON holds every frame.")
@recognizer_options
def predict(
    model: Path, audio: tuple[str, ...], format: str, output: Path | None, plots: Path | None, frames: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Emotion, segments and every 20 ms frame of files, folders, or - (standard input); wav, flac, mp3, ogg."""
    from flea_fairseq.inference.predict import predict
    from flea_fairseq.inference.recognizer import EmotionRecognizer

    predict(EmotionRecognizer.from_pretrained(model, **options), audio, format, output, plots, frames)


@verb("export", "model.pt --to hf exported --audio recording.wav")
@click.argument("model", type=PATH)
@click.argument("output", type=PATH)
@click.option("--to", "target", type=click.Choice(["hf", "onnx", "fairseq"]), required=True)
@click.option("--audio", type=PATH, help="Recording on which the export is checked.  [default: generated sound]")
def export(model: Path, output: Path, target: str, audio: Path | None) -> None:
    """Write a classifier for transformers or onnxruntime, or its bare encoder for fairseq."""
    from flea_fairseq.inference.export import export

    click.echo(export(model, target, output, audio))


@verb("app", "model.pt")
@click.argument("model", type=PATH)
@click.option("--host", default="127.0.0.1", help="0.0.0.0 shows the page to the network, to everybody there.")
@click.option("--port", type=click.IntRange(1, 65535), default=7860)
@click.option("--most-minutes", type=click.FloatRange(min=0), default=60.0, help="Longer recordings are refused.")
@click.option("--most-megabytes", type=click.IntRange(min=1), default=200, help="Larger files are refused.")
@recognizer_options
def app(model: Path, host: str, port: int, most_minutes: float, most_megabytes: int, **options: Any) -> None:
    """A web page: drop or record sound, see and hear its timeline, download it."""
    from flea_fairseq.errors import ExperimentError
    from flea_fairseq.inference.recognizer import EmotionRecognizer

    try:
        from flea_fairseq.inference.app import app
    except ImportError as error:
        raise ExperimentError(f"the page needs {error.name}: pip install 'flea_fairseq[app]'") from None
    recognizer = EmotionRecognizer.from_pretrained(model, **options)
    click.echo(f"http://{host}:{port}  (Ctrl-C ends it)")
    app(recognizer, host, port, 60 * most_minutes, most_megabytes)


@verb("fetch", "hubert-base")
@click.argument("name")
@click.option("--folder", type=PATH, help="Where to keep it.  [default: $FLEA_CACHE or ~/.cache/flea_fairseq]")
@click.option("--url", help="Another address.")
@click.option("--sha256", help="Refuse a file with another checksum.")
def fetch(name: str, folder: Path | None, url: str | None, sha256: str | None) -> None:
    """Download hubert-base, hubert-km500 or wav2vec2-base, and print where it is."""
    from flea_fairseq.models.fetch import fetch

    click.echo(fetch(name, folder, url, sha256))


@verb("user-dir", "  # fairseq-hydra-train ... common.user_dir=$(flea user-dir)")
def user_dir() -> None:
    """Print the folder to give fairseq as common.user_dir."""
    click.echo(Path(__file__).resolve().parent)


def main() -> None:
    """Entry point of `flea`."""
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that what was started is ended too
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    logging.basicConfig(level=logging.WARNING)  # before fairseq, which would let everything be printed
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch|fairseq")
    warnings.filterwarnings("ignore", category=SyntaxWarning)
    end_at_once()
    flea(prog_name="flea")
