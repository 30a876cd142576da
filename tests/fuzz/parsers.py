"""Every reader of files from others, in one table: property tests and coverage-guided runs take their rows from it.

A new reader is one row of `parsers`. `judge` says what is asked of all of them: a value, or a FleaError that can be
shown as it is.
"""

import io
import json
import re
import runpy
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import soundfile
from support import dialog

from flea_fairseq.errors import FleaError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "examples/config"
LONGEST = 2000  # characters of a message beside its path
TURN = "Ses01F_impro01"
# What is wrong with a file as a whole has no line.
WHOLE = re.compile(
    r": (the file is empty|lists no recordings|no labels|a corpus without utterances|\d+ frames in all|tiers "
    r"|\d+ shards of)"
)


@dataclass(frozen=True)
class Parser:
    """name: in messages; file: its path below a folder of its own; read: takes that path; seeds: contents that are
    read; around: writes into the folder what must stand beside it; lines: errors must name the line; pair: errors may
    name the folder alone, where its files do not fit each other."""

    name: str
    file: str
    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]
    around: Callable[[Path], None] = lambda folder: None
    lines: bool = False
    pair: bool = False


@contextmanager
def placed(parser: Parser) -> Iterator[Path]:
    """The path of a parser's file, in a folder with what must stand beside it."""
    with tempfile.TemporaryDirectory() as folder:
        parser.around(Path(folder))
        path = Path(folder) / parser.file
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path


def judge(parser: Parser, path: Path, content: bytes) -> str | None:
    """Read a content; gives the message of the error, or None for a value.

    Raises AssertionError for a message that cannot be shown as it is; any exception that is no FleaError passes.
    """
    path.write_bytes(content)
    try:
        parser.read(path)
    except FleaError as error:
        message = str(error)
    else:
        return None
    assert str(path.parent if parser.pair else path) in message, f"does not name the file: {message[:300]!r}"
    assert message.isprintable(), f"is not one line of text: {message[:300]!r}"
    assert len(message) - len(str(path)) <= LONGEST, f"is {len(message)} characters long: {message[:300]!r}"
    if parser.lines and not WHOLE.search(message):
        line = re.match(rf"{re.escape(str(path))}:(\d+): ", message)
        assert line, f"names no line: {message[:300]!r}"
        last = len(content.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n"))
        assert 1 <= int(line[1]) <= max(2, last), f"names line {line[1]} of {last}: {message[:300]!r}"
    return message


def text(*contents: str) -> Callable[[], list[bytes]]:
    return lambda: [content.encode() for content in contents]


def written(suffix: str, *writers: Callable[[Path], object]) -> Callable[[], list[bytes]]:
    """The contents of files that these functions write."""

    def contents() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            path, made = Path(folder) / f"seed{suffix}", []
            for write in writers:
                write(path)
                made.append(path.read_bytes())
            return made

    return contents


@cache
def parsers() -> dict[str, Parser]:
    """The table, by name."""
    rows = [*valuesparsers(), *array_parsers(), *audio_parsers(), *run_parsers(), *model_parsers()]
    return {row.name: row for row in rows}


def valuesparsers() -> list[Parser]:
    """fairseq's files, the corpus table, and what corpora bring with them."""
    from flea_fairseq.data.corpus import read_corpus
    from flea_fairseq.data.manifest import read_dictionary, read_labels, read_manifest, read_units
    from flea_fairseq.data.shard import shard
    from flea_fairseq.data.spans import read_rttm, read_textgrid
    from flea_fairseq.evaluation.predictions import read_predictions

    turns = runpy.run_path(str(ROOT / "manifests/iemocap.py"))["_turns"]
    table = runpy.run_path(str(ROOT / "manifests/table.py"))["read_table"]

    def two_shards(path: Path) -> object:
        return shard(path, path.parent / "out", 2)

    required, optional = {name: name for name in ("path", "speaker", "emotion")}, {"session": None, "id": None}
    corpus = "# root: /data\nid\tpath\tframes\tspeaker\tsession\temotion\n"
    header = "id\ttruth\tprediction\thappy\tsad\n"
    return [
        Parser("manifest", "a.tsv", read_manifest, text("/data\na.wav\t800\nb/c.flac\t123456\n"), lines=True),
        Parser("shard", "a.tsv", two_shards, text("/data\na\t800\nb\t9\n"), lines=True),
        Parser("labels", "a.emo", read_labels, text("happy\nsad\nneutral\n"), lines=True),
        Parser("units", "a.km", read_units, text("0 1 2\n17 17 499\n3\n"), lines=True),
        Parser("dictionary", "dict.km.txt", read_dictionary, text("0 1\n1 1\n2 12\n", "happy 3\nsad 1\n"), lines=True),
        Parser(
            "corpus", "corpus.tsv", read_corpus,
            text(f"{corpus}a\tx/a.wav\t800\tann\tS1\thappy\nb\tb.wav\t801\tbob\t\tsad\n"), lines=True,
        ),
        Parser(
            "iemocap", f"Session1/dialog/EmoEvaluation/{TURN}.txt", lambda path: list(turns(path, path.parents[3])),
            text(dialog((f"{TURN}_F000", "neu"), (f"{TURN}_M001", "exc"), (f"{TURN}_F002", "xxx"))), lines=True,
        ),
        Parser(
            "table", "labels.csv", lambda path: table(path, required, optional),
            text("path,speaker,emotion\nx/a.wav,ann,sad\n", 'id;emotion;"path";speaker\nu;sad;"a b.wav";bob\n'),
            lines=True,
        ),
        Parser(
            "rttm", "spans.rttm", read_rttm, text("SPEAKER a 1 0.5 1.25 <NA> <NA> sad <NA> <NA>\n" * 2), lines=True,
        ),
        Parser("textgrid", "a.TextGrid", read_textgrid, text(LONG_GRID, SHORT_GRID), lines=True),
        Parser(
            "predictions", "predictions.tsv", read_predictions,
            text(f"{header}a\tsad\thappy\t0.750000\t0.250000\nb\tsad\tsad\t0.1\t9e-1\n"), lines=True,
        ),
    ]  # fmt: skip


LONG_GRID = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "emotion"
        xmin = 0
        xmax = 3
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 3
            text = "angry ""very"""
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 3
        points: size = 1
        points [1]:
            number = 1.5
            mark = "x"
'''
SHORT_GRID = (
    'File type = "ooTextFile"\n"TextGrid"\n\n0\n3\n<exists>\n1\n"IntervalTier"\n"emotion"\n0\n3\n1\n0\n3\n"sad"\n'
)


def array_parsers() -> list[Parser]:
    """k-means models and features."""
    from flea_fairseq.clustering.features import read_features
    from flea_fairseq.clustering.kmeans import KMeansModel, read_kmeans, write_kmeans

    centroids = np.arange(6, dtype=np.float32).reshape(3, 2)
    model = KMeansModel(centroids, {"source": "mfcc", "layer": None, "clusters": 3, "dim": 2})

    def features(folder: Path) -> None:
        np.save(folder / "train_0_1.npy", centroids)
        (folder / "train_0_1.len").write_text("1\n2\n")
        (folder / "train_0_1.json").write_text('{"source": "mfcc", "layer": null}')

    def read(path: Path) -> object:
        return read_features(path.parent, "train").frames().sum()

    return [
        Parser("kmeans", "kmeans.npz", read_kmeans, written(".npz", lambda path: write_kmeans(path, model))),
        Parser("sklearn", "km.bin", read_kmeans, sklearn_models),
        Parser(
            "features",
            "train_0_1.npy",
            read,
            written(".npy", lambda path: np.save(path, centroids)),
            features,
            pair=True,
        ),
        Parser("lengths", "train_0_1.len", read, text("1\n2\n", "3\n"), features, lines=True),
        Parser("source", "train_0_1.json", read, text('{"source": "0123abcd", "layer": 9}'), features),
    ]  # fmt: skip


def sklearn_models() -> list[bytes]:
    """scikit-learn's models as joblib writes them."""
    from sklearn.cluster import MiniBatchKMeans

    points = np.random.default_rng(0).standard_normal((30, 2))
    model = MiniBatchKMeans(3, n_init=1, random_state=np.random.RandomState(3), compute_labels=False).fit(points)
    made = []
    for protocol in (0, 2, 4):
        file = io.BytesIO()
        joblib.dump(model, file, protocol=protocol)
        made.append(file.getvalue())
    return [*made, zlib.compress(made[-1])]


def audio_parsers() -> list[Parser]:
    """Audio of every container that libsndfile writes, whole and piece by piece."""
    from torchaudio import functional  # noqa: F401  slow to import: now, not in the first content

    from flea_fairseq.data.audio import read_audio
    from flea_fairseq.data.long_audio import LongAudio

    def piecewise(path: Path) -> object:
        audio = LongAudio(path)
        return audio.read(0, min(audio.samples, 16000)), audio.read(max(0, audio.samples - 400), audio.samples)

    def sound(kind: str, rate: int = 16000, subtype: str | None = None, channels: int = 1) -> Callable[[Path], object]:
        samples = np.random.default_rng(0).uniform(-0.5, 0.5, (450, channels)).astype(np.float32)
        return lambda path: soundfile.write(path, samples, rate, format=kind, subtype=subtype)

    pcm = [
        sound(kind, rate, "PCM_16") for kind, rate in (("WAV", 16000), ("AIFF", 8000), ("W64", 44100), ("CAF", 48000))
    ]
    more = [sound("WAV", 8000, "ULAW"), sound("WAV", 16000, "FLOAT", 2), sound("WAVEX", 16000, "PCM_24"),
            sound("RF64"), sound("AU", 16000), sound("FLAC", 16000), sound("WAV", 16000, "IMA_ADPCM")]  # fmt: skip
    coded = [sound("OGG", 16000, "VORBIS"), sound("OGG", 48000, "OPUS"), sound("MP3", 16000, "MPEG_LAYER_III")]
    return [
        Parser("audio", "a.wav", read_audio, written(".wav", *pcm, *more)),
        Parser("coded_audio", "a.ogg", read_audio, written(".ogg", *coded)),
        Parser("long_audio", "a.wav", piecewise, written(".wav", *pcm, more[5])),
    ]


def run_parsers() -> list[Parser]:
    """Experiments, configs, and what a run's folder holds."""
    from made_runs import make_run  # of tests/evaluation

    from flea_fairseq.data.folds import check_fold
    from flea_fairseq.evaluation.curves import read_curves
    from flea_fairseq.evaluation.results import read_run, read_system
    from flea_fairseq.models.fetch import _read_lock
    from flea_fairseq.workflow.experiment import read_experiment
    from flea_fairseq.workflow.settings import read_flat
    from flea_fairseq.workflow.status import read_graph

    def run(folder: Path) -> None:
        make_run(folder, seeds=(1,), truth_of=lambda number: np.arange(8) % 4)

    def results(path: Path) -> object:
        found = read_run(path.parent)
        return [read_system(found, facts) for facts in found.facts["systems"]]

    def of_run(name: str) -> Callable[[], list[bytes]]:
        def contents() -> list[bytes]:
            with tempfile.TemporaryDirectory() as folder:
                run(Path(folder))
                return [(Path(folder) / name).read_bytes()]

        return contents

    def experiment_folder(folder: Path) -> None:
        (folder / "m.py").write_text("")
        (folder / "config").mkdir()
        for name, values in CONFIG.items():
            (folder / "config" / f"{name}.yaml").write_text(values)

    log = (
        '2026-01-01 | INFO | train_inner | {"epoch": 1, "loss": "5.1", "num_updates": "10"}\n'
        'x {"epoch": 1, "train_loss": "4.1", "train_num_updates": "10"}\n{"epoch": 1, "valid_ua": "0.5"}\n'
        "Saved checkpoint x/checkpoint_best.pt (epoch 1 @ 10 updates)\n"
    )
    graph = (
        "[Mon Jan  5 10:00:00 2026]\nrule tapt:\n    log: logs/tapt.log\n    jobid: 3\nJob stats:\njob    count\n"
        "total        12\nJob 3 has been submitted with SLURM jobid 77 (log: x).\nFinished jobid: 3 (Rule: tapt)\n"
        "1 of 12 steps (8%) done\nError in rule tapt:\n    jobid: 3\n"
    )
    return [
        Parser("experiment", "experiment.yaml", read_experiment, text(EXPERIMENT), experiment_folder),
        Parser(
            "config", "pretrain.yaml", read_flat,
            lambda: [path.read_bytes() for path in sorted((CONFIGS / "system").glob("*.yaml"))],
        ),
        Parser("fold", "folds/S1/fold.json", lambda path: check_fold(path.parent), of_run("folds/S1/fold.json"), run),
        Parser("run", "run.json", results, of_run("run.json"), run, pair=True),
        Parser("curves", "train.log", read_curves, text(log)),
        Parser("graph", "snakemake.log", read_graph, text(graph)),
        Parser("lock", "fetch.lock", _read_lock, text(f"hubert-base  {'0' * 64}  378  https://x/y\n"), lines=True),
    ]  # fmt: skip


EXPERIMENT = """name: demo
manifest: m.py
manifest_options: [--subset]
config_dir: config
protocol: inner
folds: [Ses01]
seeds: [1, 2]
threads: 1
first_units: {clusters: 50}
layers: [2]
clusters: [50]
examined: {layer: 2}
settings:
  pretrain: &updates
    optimization.max_update: 150
    model.conv_feature_layers: "[(32,10,5)] + [(32,3,2)] * 4"
  tapt_pretrain: {<<: *updates}
  finetune:
    optimizer.adam_betas: (0.9,0.98)
    optimization.lr: [1e-3]
"""
CONFIG = {
    "pretrain": "model: {conv_feature_layers: '[(1,2,3)]', encoder_layers: 2}\noptimization: {max_update: 10}\n",
    "finetune": "optimizer: {adam_betas: [0.9, 0.98]}\noptimization: {lr: [0.1]}\n",
}


def model_parsers() -> list[Parser]:
    """Model files: fairseq's, Hugging Face's, frames of the CNN, and settings that fairseq would evaluate."""
    import torch
    from safetensors.torch import save_file

    from flea_fairseq.data.cnn_cache import has_frames, write_frames
    from flea_fairseq.models.checkpoints import build_encoder, load_encoder, read_checkpoint
    from flea_fairseq.models.encoder import Encoder, EncoderConfig, parse_conv_layers

    torch.manual_seed(0)
    layers = ((4, 10, 5), *((4, 3, 2),) * 4, *((4, 2, 2),) * 2)
    shape = EncoderConfig(
        conv_layers=layers, encoder_layers=1, encoder_embed_dim=8, encoder_ffn_embed_dim=8, encoder_attention_heads=2,
        conv_pos=4, conv_pos_groups=2,
    )  # fmt: skip
    encoder = Encoder(shape)
    state = dict(encoder.state_dict())
    model = {
        "conv_feature_layers": str(list(layers)), "encoder_layers": 1, "encoder_embed_dim": 8,
        "encoder_ffn_embed_dim": 8, "encoder_attention_heads": 2, "conv_pos": 4, "conv_pos_groups": 2,
    }  # fmt: skip

    def pytorch(content: object) -> Callable[[Path], object]:
        return lambda path: torch.save(content, path)

    def old(path: Path) -> None:  # before PyTorch 1.6
        content = {"args": SimpleNamespace(**model).__dict__, "model": state}
        torch.save(content, path, _use_new_zipfile_serialization=False)

    def folder(path: Path) -> None:
        (path / "config.json").write_text(json.dumps(HUGGING_FACE))
        save_file(hugging_face_state(state), path / "model.safetensors")

    def weights() -> list[bytes]:
        with tempfile.TemporaryDirectory() as made:
            folder(Path(made))
            return [(Path(made) / "model.safetensors").read_bytes()]

    def conv(path: Path) -> object:
        return parse_conv_layers(path.read_bytes().decode("latin-1"), str(path))

    seeds = [pytorch({"cfg": {"model": model, "task": {"normalize": True}}, "model": state}), old]
    return [
        Parser("checkpoint", "model.pt", load_encoder, written(".pt", *seeds)),
        Parser(
            "hugging_face", "config.json", lambda path: build_encoder(read_checkpoint(path.parent)),
            lambda: [json.dumps(HUGGING_FACE).encode()], folder, pair=True,
        ),
        Parser(
            "safetensors", "model.safetensors", lambda path: build_encoder(read_checkpoint(path.parent)), weights,
            folder, pair=True,
        ),
        Parser(
            "cnn_frames", "frames.safetensors", lambda path: has_frames(path, (3, 2)),
            written(".safetensors", lambda path: write_frames(path, torch.zeros(3, 2))),
        ),
        Parser("conv_layers", "conv.txt", conv, text("[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2")),
    ]  # fmt: skip


HUGGING_FACE = {
    "model_type": "hubert", "conv_dim": [4] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2], "feat_extract_norm": "group", "conv_bias": False, "num_hidden_layers": 1,
    "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "hidden_act": "gelu",
    "do_stable_layer_norm": False, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


def hugging_face_state(state: dict) -> dict:
    """fairseq's parameters under transformers' names, as far as a test needs them."""
    names = {
        "conv_layers.0.2.": "conv_layers.0.layer_norm.", "mask_emb": "masked_spec_embed",
        "self_attn_layer_norm": "layer_norm", "self_attn": "attention", "fc1": "feed_forward.intermediate_dense",
        "fc2": "feed_forward.output_dense", "post_extract_proj": "feature_projection.projection",
        "encoder.pos_conv.0.weight_g": "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
        "encoder.pos_conv.0.weight_v": "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
        "encoder.pos_conv.0.bias": "encoder.pos_conv_embed.conv.bias", ".0.weight": ".conv.weight",
    }  # fmt: skip
    renamed = {}
    for name, value in state.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        name = f"feature_projection.{name}" if name.startswith("layer_norm.") else name
        renamed[name] = value.clone().contiguous()
    return renamed
