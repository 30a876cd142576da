"""2,000 files, 100 of them damaged in 12 ways: one report, the rest on request, and labels that stay with their audio.

What a file is can be heard: every second sample is its number + 1, and its length follows from the number.
"""

import csv
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from flea_fairseq.clustering.cluster import cluster
from flea_fairseq.data.audio import FRAME_SAMPLES, HOP_SAMPLES
from flea_fairseq.data.corpus import read_corpus
from flea_fairseq.data.emotion_dataset import EmotionDataset
from flea_fairseq.data.folds import folds
from flea_fairseq.data.manifest import (
    FAIRSEQ_SYMBOLS,
    Manifest,
    read_labels,
    read_manifest,
    utterance_id,
    write_dictionary,
    write_manifest,
    write_units,
)
from flea_fairseq.errors import AudioError, FormatError
from flea_fairseq.tasks.flea_pretraining import (
    FleaAudioPretrainingConfig,
    FleaAudioPretrainingTask,
    FleaPretrainingConfig,
    FleaPretrainingTask,
    SeededCrops,
)

ROOT = Path(__file__).resolve().parents[2]
FILES, SPEAKERS, EMOTIONS = 2000, 10, ("angry", "happy", "neutral", "sad")
SPECIAL = len(FAIRSEQ_SYMBOLS)  # the numbers of labels begin behind them


def samples_of(number: int) -> np.ndarray:
    """0.1 to 0.3 s of 16 bit at 16 kHz."""
    samples = np.random.default_rng(number).integers(-9000, 9000, 1600 + 7 * number % 3200).astype(np.int16)
    samples[::2] = number + 1
    return samples


def number_in(waveform) -> int:
    """The number of the file that (samples,) float were read from, or of a part of it."""
    samples = np.rint(np.asarray(waveform) * 32768).astype(int)
    (value,) = {part[0] for part in (samples[::2], samples[1::2]) if (part == part[0]).all()}
    return int(value) - 1


def name_of(number: int) -> str:
    return f"{number % 7}/u{number:04d}.{'flac' if number % 2 else 'wav'}"  # its folder says nothing


def speaker_of(number: int) -> str:
    return f"speaker{number // 4 % SPEAKERS}"


def emotion_of(number: int) -> str:
    return EMOTIONS[number % 4]


def with_bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A damage to what is in the file."""
    return lambda path: path.write_bytes(change(path.read_bytes()))  # type: ignore[return-value]


def with_sample(value: float) -> Callable[[Path], None]:
    """One sample becomes `value`; the file is of 32-bit floats, whatever it is called."""

    def damage(path: Path) -> None:
        samples, rate = soundfile.read(path, dtype="float32")
        samples[len(samples) // 2] = value
        soundfile.write(path, samples, rate, format="WAV", subtype="FLOAT")

    return damage


def wrong_in_the_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0x5A for byte in content[middle : middle + 40]) + content[middle + 40 :]


def only_a_header(path: Path) -> None:
    soundfile.write(path, np.zeros(0, np.int16), 16000, format="WAV")


def shorter_than_a_frame(path: Path) -> None:
    soundfile.write(path, np.ones(FRAME_SAMPLES - 1, np.int16), 16000)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone.wav")


DAMAGES = (  # of which files, how, what it is called in the report, how many
    ("wav", with_bytes(lambda content: b""), "the file is empty", 3),
    ("wav", only_a_header, "holds no samples", 4),
    ("wav", with_bytes(lambda content: content[: len(content) // 2]), "truncated", 20),
    ("flac", with_bytes(lambda content: content[: len(content) // 2]), "truncated or damaged", 15),
    ("flac", with_bytes(wrong_in_the_middle), "truncated or damaged", 10),
    ("wav", with_bytes(lambda content: b"no audio at all\n" * 99), "not audio that libsndfile can read", 6),
    ("flac", with_bytes(lambda content: np.random.default_rng(1).bytes(3000)), "not audio that libsndfile can read", 5),
    ("wav", with_sample(np.nan), "holds samples that are not finite numbers", 7),
    ("flac", with_sample(-np.inf), "holds samples that are not finite numbers", 8),
    ("wav", shorter_than_a_frame, "too short", 9),
    ("flac", a_folder, "no such audio file", 2),
    ("wav", a_link_to_nothing, "no such audio file", 11),
)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> tuple[Path, dict[int, str]]:
    """The corpus's folder with its labels.csv, and of each damaged file what must be said of it."""
    root = tmp_path_factory.mktemp("corpus")
    for number in range(FILES):
        path = root / name_of(number)
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples_of(number), 16000)
    order, reasons = np.random.default_rng(0).permutation(FILES).tolist(), {}
    for suffix, damage, reason, count in DAMAGES:
        chosen = [number for number in order if name_of(number).endswith(suffix) and number not in reasons][:count]
        for number in chosen:
            damage(root / name_of(number))
            reasons[number] = reason
    with open(root / "labels.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "speaker", "emotion"])
        rows.writerows([name_of(number), speaker_of(number), emotion_of(number)] for number in range(FILES))
    assert len(reasons) == 100
    return root, reasons


def table(root: Path, output: Path, *options: str) -> subprocess.CompletedProcess:
    """`manifests/table.py` as a user starts it."""
    command = [sys.executable, ROOT / "manifests/table.py", root / "labels.csv", "--output", output, *options]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def fold(damaged, tmp_path_factory) -> Path:
    """The corpus without what is damaged, its folds, and the first of them."""
    root, reasons = damaged
    output = tmp_path_factory.mktemp("output")
    done = table(root, output / "corpus.tsv", "--skip-bad")
    assert done.returncode == 0 and re.search(r"^1900 utterances, 10 speakers, .* -> ", done.stdout, re.M)
    kept = Counter(emotion_of(number) for number in range(FILES) if number not in reasons)
    assert ", ".join(f"{emotion} {kept[emotion]}" for emotion in EMOTIONS) in done.stdout
    folds(output / "corpus.tsv", output / "folds")
    return sorted(output.glob("folds/*/fold.json"))[0].parent


def test_one_report_names_every_damaged_file_with_its_reason(damaged, tmp_path):
    root, reasons = damaged
    done = table(root, tmp_path / "out/corpus.tsv")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: 100 of 2000 audio files cannot be used")
    lines = done.stdout.splitlines()
    listed = dict(line.split(maxsplit=1) for line in lines[:100])
    assert listed.keys() == {name_of(number) for number in reasons}
    assert [number for number, reason in reasons.items() if not listed[name_of(number)].startswith(reason)] == []
    counts = [line.strip().split(" of 2000 files: ") for line in lines[100:]]
    assert {reason: int(count) for count, reason in counts} == Counter(reasons.values())
    assert not list(tmp_path.iterdir())


def test_corpus_tsv_has_what_is_left_each_with_its_own_facts(damaged, fold):
    root, reasons = damaged
    corpus = read_corpus(fold.parents[1] / "corpus.tsv")
    assert corpus.root == root
    assert [(u.id, u.path, u.frames, u.speaker, u.emotion) for u in corpus.utterances] == [
        (utterance_id(name_of(n)), name_of(n), len(samples_of(n)), speaker_of(n), emotion_of(n))
        for n in range(FILES) if n not in reasons
    ]  # fmt: skip


def test_every_remaining_file_is_trained_with_its_own_label(damaged, fold):
    """Read as fine-tuning reads it, and known by its sound; the parts of a fold hold each file once."""
    _, reasons = damaged
    classes = sorted(EMOTIONS)
    heard, speakers = [], {}
    for split in ("train", "valid", "test"):
        manifest, labels = read_manifest(fold / f"{split}.tsv"), read_labels(fold / f"{split}.emo")
        dataset = EmotionDataset(manifest, [classes.index(label) for label in labels])
        members = [dataset[index] for index in range(len(dataset))]
        numbers = [number_in(member["source"]) for member in members]
        assert [classes[member["target"]] for member in members] == [emotion_of(number) for number in numbers]
        assert [dataset.name_of(index) for index in range(len(dataset))] == [f"u{number:04d}" for number in numbers]
        assert [len(samples_of(number)) for number in numbers] == list(manifest.frames)
        speakers[split] = {speaker_of(number) for number in numbers}
        heard += numbers
    assert sorted(heard) == [number for number in range(FILES) if number not in reasons]
    assert sum(map(len, speakers.values())) == SPEAKERS


def pretraining(fold: Path, folder: Path, units: list[np.ndarray]) -> SeededCrops:
    """What masked prediction of these labels, of 2,000 kinds, reads of `ssl`: crops of the shortest's length."""
    write_units(folder / "ssl.km", units)
    write_dictionary(folder / "dict.km.txt", map(str, range(FILES)))
    config = FleaPretrainingConfig(labels=["km"], label_rate=50.0, label_dir=str(folder), random_crop=True)
    return loaded(FleaPretrainingTask, config, fold)


def loaded(task, config, fold: Path) -> SeededCrops:
    config.data, config.save_dir, config.seed, config.train_subset = str(fold), str(fold), 1, "ssl"
    made = task.setup_task(OmegaConf.structured(config))
    made.load_dataset("ssl")
    return made.datasets["ssl"]


def numbered_units(fold: Path) -> list[np.ndarray]:
    """Every frame of a recording is labelled with its number."""
    manifest = read_manifest(fold / "ssl.tsv")
    frames = [(samples - FRAME_SAMPLES) // HOP_SAMPLES + 1 for samples in manifest.frames]
    return [np.full(count, int(utterance_id(name)[1:])) for count, name in zip(frames, manifest.names)]


def test_every_remaining_file_is_pretrained_with_its_own_units(fold, tmp_path):
    """Through HuBERT's dataset, in batches cut to their shortest at a random place."""
    units = numbered_units(fold)
    dataset, heard = pretraining(fold, tmp_path, units), []
    for first in range(0, len(dataset), 50):
        members = [dataset[index] for index in range(first, min(first + 50, len(dataset)))]
        batch = dataset.collater(members)
        for source, target in zip(batch["net_input"]["source"], batch["target_list"][0]):
            heard.append(number_in(source))
            assert (target - SPECIAL == heard[-1]).all()
    assert heard == [row[0] for row in units] == [int(dataset.name_of(index)[1:]) for index in range(len(dataset))]


def test_units_of_other_recordings_are_refused(fold, tmp_path):
    """fairseq warns of them in a line of its log, and trains."""
    units = numbered_units(fold)
    with pytest.raises(FormatError, match=r"ssl\.km:\d+: \d+ labels at 50 a second for '.*flea cluster"):
        pretraining(fold, tmp_path, units[::-1])
    for wrong, place in ((units[:-1], "ssl.km: ends before recording"), ([*units, units[0]], "ssl.tsv: ends before")):
        with pytest.raises(FormatError, match=place):
            pretraining(fold, tmp_path, wrong)


LATER = {
    "shorter": (lambda path: soundfile.write(path, samples_of(3)[:-320], 16000), "the manifest says 1621"),
    "longer": (lambda path: soundfile.write(path, samples_of(400), 16000), "the manifest says 1621"),
    "cut": (with_bytes(lambda content: content[:-100]), "truncated"),
    "no numbers": (with_sample(np.nan), "not finite numbers"),
    "gone": (Path.unlink, "no such audio file"),
}


@pytest.mark.parametrize("kind", LATER)
def test_damage_after_the_manifest_stops_whoever_reads_the_file(tmp_path, kind):
    numbers = range(6)
    for number in numbers:
        soundfile.write(tmp_path / f"u{number}.wav", samples_of(number), 16000)
    names, lengths = (f"u{number}.wav" for number in numbers), (len(samples_of(number)) for number in numbers)
    write_manifest(tmp_path / "ssl.tsv", Manifest(tmp_path, tuple(names), tuple(lengths)))
    damage, reason = LATER[kind]
    damage(tmp_path / "u3.wav")
    for dataset in (
        EmotionDataset(read_manifest(tmp_path / "ssl.tsv"), [0] * 6),
        pretraining(tmp_path, tmp_path, numbered_units(tmp_path)),
        loaded(FleaAudioPretrainingTask, FleaAudioPretrainingConfig(tpu=False), tmp_path),
    ):
        assert [number_in(dataset[number]["source"]) for number in (0, 1, 2, 4, 5)] == [0, 1, 2, 4, 5]
        with pytest.raises(AudioError, match=rf"u3\.wav: .*{reason}"):
            dataset[3]
    with pytest.raises(AudioError, match=rf"u3\.wav: .*{reason}"):
        cluster([tmp_path / "ssl.tsv"], tmp_path / "units", mfcc=True, clusters=[2])
    assert not (tmp_path / "units").exists()
