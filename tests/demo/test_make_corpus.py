"""The demo corpus: its layout, its labels, its spans, and that it comes out the same in every process."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("espeakng_loader")
ROOT = Path(__file__).resolve().parents[2]
LINE = re.compile(
    r"\[(\d+\.\d{4}) - (\d+\.\d{4})\]\t(Ses0(\d)[FM]_impro01_([FM])\d{3})\t(neu|ang|hap|exc|sad)\t\[[^\]]+\]"
)
NAMES = {"neu": "neutral", "ang": "angry", "hap": "happy", "exc": "happy", "sad": "sad"}


def make(*arguments: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples/demo/make_corpus.py"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "corpus"
    done = make(folder, "--sentences", 2)
    assert done.returncode == 0, done.stderr
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def labels(folder: Path) -> dict[str, tuple[str, str]]:
    """Utterance id -> speaker and emotion, as the label files say."""
    found = {}
    for path in folder.glob("Session*/dialog/EmoEvaluation/*.txt"):
        for line in path.read_text().splitlines():
            if match := LINE.fullmatch(line):
                _, _, utterance, session, speaker, code = match.groups()
                assert utterance.startswith(path.stem) and path.parts[-4] == f"Session{session}"
                found[utterance] = (session + speaker, NAMES[code])
    return found


def spans(folder: Path) -> dict[str, tuple[float, float, str]]:
    rows = [line.split() for line in (folder / "spans.rttm").read_text().splitlines()]
    return {row[1]: (float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows}


def test_every_voice_speaks_in_four_accents(tmp_path):
    assert make(tmp_path / "corpus", "--sentences", 1, "--accents").returncode == 0
    rows = [line.split("\t") for line in (tmp_path / "corpus/voices.tsv").read_text().splitlines()]
    spoken: dict[str, set[str]] = {}
    for name, voice in rows:
        accent, timbre = voice.split("+")
        spoken.setdefault(name[3:5] + name[-4] + timbre, set()).add(accent)
    assert {row[0] for row in rows} == set(labels(tmp_path / "corpus"))
    assert len(spoken) == 10 and set(map(len, spoken.values())) == {4}


def test_a_fresh_process_gives_the_same_bytes_and_another_seed_others(corpus, tmp_path):
    assert make(tmp_path / "again", "--sentences", 2).returncode == 0
    assert contents(tmp_path / "again") == contents(corpus)
    assert make(tmp_path / "other", "--sentences", 2, "--seed", 2).returncode == 0
    one, other = contents(corpus), contents(tmp_path / "other")
    assert one.pop("voices.tsv") == other.pop("voices.tsv")  # who speaks is no draw
    assert not set(one.values()) & set(other.values())


def test_ten_voices_say_each_emotion_as_often(corpus):
    counts = Counter(labels(corpus).values())
    assert len(counts) == 40 and set(counts.values()) == {2}


def test_every_label_has_its_recording_in_speech_format(corpus):
    wavs = {path.stem: path for path in corpus.glob("Session*/sentences/wav/*/*.wav")}
    assert wavs.keys() == labels(corpus).keys()
    for name, path in wavs.items():
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert 1 < info.duration < 6
        assert path.parent.name == name.rpartition("_")[0]


def test_times_in_a_dialog_are_the_recordings_lengths(corpus):
    for path in corpus.glob("Session*/dialog/EmoEvaluation/*.txt"):
        turns = [match.groups() for line in path.read_text().splitlines() if (match := LINE.fullmatch(line))]
        at = 0.0
        for start, end, name, session, *_ in turns:
            assert float(start) == pytest.approx(at, abs=2e-4)
            at = float(end)
            length = soundfile.info(corpus / f"Session{session}/sentences/wav/{path.stem}/{name}.wav").duration
            assert at - float(start) == pytest.approx(length, abs=2e-4)


def test_spans_agree_with_labels_and_some_are_partial(corpus):
    known = spans(corpus)
    emotional = {name: emotion for name, (_, emotion) in labels(corpus).items() if emotion != "neutral"}
    assert {name: emotion for name, (_, _, emotion) in known.items()} == emotional
    partial = Counter()
    for name, (start, end, _) in known.items():
        path = next(corpus.glob(f"Session*/sentences/wav/*/{name}.wav"))
        length = soundfile.info(path).duration
        assert 0 <= start < end <= length
        # every frame's centre of a whole utterance lies in its span (the first is at 12.5 ms)
        if not (start <= 0.0125 and end >= length - 0.0125):
            assert 0.1 < (end - start) / length < 0.65
            partial[labels(corpus)[name]] += 1
    assert len(partial) == 30 and set(partial.values()) == {1}  # of two utterances a voice and emotion, one


def test_an_angry_span_is_louder_than_the_rest_of_its_utterance(corpus):
    louder = []
    for name, (start, end, emotion) in spans(corpus).items():
        samples, rate = soundfile.read(next(corpus.glob(f"Session*/sentences/wav/*/{name}.wav")))
        first, last = round(start * rate), round(end * rate)
        rest = np.concatenate([samples[:first], samples[last:]])
        if emotion == "angry" and len(rest) > 0.2 * rate:
            louder.append(samples[first:last].std() > rest.std())
    assert len(louder) == 10 and all(louder)


def test_a_folder_that_is_there_is_left_alone(corpus, tmp_path):
    (tmp_path / "kept").mkdir()
    done = make(tmp_path / "kept")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "kept: is there already; remove it, or name a new folder" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "kept"]


def test_a_missing_synthesiser_is_said_in_one_line(tmp_path):
    (tmp_path / "espeakng_loader.py").write_text("raise ImportError\n")
    script = (ROOT / "examples/demo/make_corpus.py").as_posix()
    start = (
        "import runpy, sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[:3]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", start, str(tmp_path), str(ROOT / "examples/demo"), script, str(tmp_path / "c")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: the speech synthesiser is missing; install it: pip install espeakng-loader\n"
    assert not (tmp_path / "c").exists()
