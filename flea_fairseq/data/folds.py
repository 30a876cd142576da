"""A corpus.tsv -> a folder for each fold, with fairseq's manifests and labels of its splits."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from flea_fairseq.data.corpus import Corpus, read_corpus
from flea_fairseq.data.corpus_notes import identical_audio, notes, one_class_speakers
from flea_fairseq.data.files import read_json, replacing_files, write_text
from flea_fairseq.data.manifest import Manifest, read_manifest, write_dictionary, write_labels, write_manifest
from flea_fairseq.data.protocols import SPLITS, Fold, some, split
from flea_fairseq.errors import CorpusError


def folds(
    corpus: Path,
    output: Path,
    protocol: str = "inner",
    n_folds: int = 5,
    seed: int = 1,
    transductive: bool = False,
    replace: bool = False,
) -> list[str]:
    """Split a corpus.tsv by a protocol, write each fold to `output/<fold>/`, and return the folds' names.

    `n_folds` and `seed` matter only for a corpus without sessions; `replace` removes the folds of another split.
    `output/index.json`, written last, lists the names; a folder that has a fold.json is whole. Speakers of a single
    class, and files that are there twice, are printed; the same audio on two sides of a fold is refused. Raises
    CorpusError, FormatError; WriteError, with the folds as they were.
    """
    table = read_corpus(corpus)
    identical = identical_audio(table)
    for note in notes(one_class_speakers(table), identical):
        print(f"note: {note}")
    made = split(table, protocol, n_folds, seed, transductive, identical)
    names = [fold.name for fold in made]
    if not replace:
        _refuse_strangers(Path(output), set(names))
    with replacing_files(output, last=("fold.json", "index.json")) as temporary:
        for fold in made:
            _write(temporary / fold.name, table, fold)
        write_text(temporary / "index.json", json.dumps(names) + "\n")
        if replace:
            _remove_others(Path(output), names)
    return names


def _remove_others(output: Path, names: list[str]) -> None:
    """Remove folders that an earlier call wrote: those with a fold's files in them."""
    for path in output.glob("*/dict.emo.txt"):
        if path.parent.name not in names:
            shutil.rmtree(path.parent)


def _refuse_strangers(output: Path, names: set[str]) -> None:
    """Folds of an earlier, different split would be taken for this one's."""
    others = sorted({path.parent.name for path in output.glob("*/fold.json")} - names)
    if others:
        raise CorpusError(f"{output}: holds folds of another split ({some(others)}); remove them or name a new folder")


def _write(folder: Path, corpus: Corpus, fold: Fold) -> None:
    """Write a fold's files."""
    for name in SPLITS:
        members = getattr(fold, name)
        paths, frames = tuple(u.path for u in members), tuple(u.frames for u in members)
        write_manifest(folder / f"{name}.tsv", Manifest(corpus.root, paths, frames))
        write_labels(folder / f"{name}.emo", [u.emotion for u in members])
    write_dictionary(folder / "dict.emo.txt", corpus.emotions())
    facts = {
        "fold": fold.name,
        "protocol": fold.protocol,
        "score": fold.score,
        "transductive": fold.transductive,
        **{f"{name}_speakers": sorted({u.speaker for u in getattr(fold, name)}) for name in ("train", "valid", "test")},
        "n": {name: len(getattr(fold, name)) for name in SPLITS},
        "hash": fold_hash(folder),
    }
    write_text(folder / "fold.json", json.dumps(facts, indent=2) + "\n")


def fold_hash(folder: Path) -> str:
    """One SHA-256 over the names and contents of a fold's files, but for the corpus's root, which is the machine's."""
    digest = hashlib.sha256()
    for name in sorted(f"{name}.{suffix}" for name in SPLITS for suffix in ("tsv", "emo")) + ["dict.emo.txt"]:
        content = (folder / name).read_bytes()
        if name.endswith(".tsv"):
            content = content.partition(b"\n")[2]
        digest.update(f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode())
    return digest.hexdigest()


def check_fold(folder: Path) -> dict[str, Any]:
    """The facts of fold.json, after checking that the fold's files are those that were split.

    Raises CorpusError for files that were changed since, or a tested recording that unsupervised steps may hear where
    the fold says that they do not.
    """
    path = Path(folder) / "fold.json"
    facts = read_json(path, ("fold", "protocol", "score", "transductive", "hash"), "run flea folds again")
    try:
        same = fold_hash(path.parent) == facts["hash"]
    except OSError as error:
        raise CorpusError(f"{path}: {error.filename} cannot be read ({error.strerror}); run flea folds again") from None
    if not same:
        raise CorpusError(
            f"{path}: the fold's files are not those that were split; run flea folds and the experiment again"
        )
    heard, tested = (set(read_manifest(path.with_name(f"{name}.tsv")).names) for name in ("ssl", "test"))
    if not facts["transductive"] and heard & tested:
        raise CorpusError(f"{path}: not transductive, but ssl.tsv has {some(sorted(heard & tested))} of test.tsv")
    return facts
