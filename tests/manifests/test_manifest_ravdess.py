import pytest
import soundfile

from flea_fairseq.data.corpus import read_corpus

NAMES = (
    "03-01-01-01-01-01-{a}",  # neutral
    "03-01-02-01-01-01-{a}",  # calm
    "03-01-03-02-02-02-{a}",  # happy
    "03-01-04-01-01-01-{a}",  # sad
    "03-01-05-01-02-01-{a}",  # angry
    "03-01-06-01-01-01-{a}",  # fearful
    "03-01-07-01-01-01-{a}",  # disgust
    "03-01-08-01-01-01-{a}",  # surprised
    "03-02-05-01-01-01-{a}",  # sung
)


@pytest.fixture
def root(tmp_path, speak):
    for actor in ("01", "02"):
        for name in NAMES:
            speak(tmp_path / f"ravdess/Actor_{actor}/{name.format(a=actor)}.wav", 4800, 48000)
    return tmp_path / "ravdess"


def rows(tmp_path):
    return [(u.id, u.speaker, u.session, u.emotion) for u in read_corpus(tmp_path / "out/corpus.tsv").utterances]


def test_four_classes_of_speech_at_16_khz(root, tmp_path, run_script):
    done = run_script("ravdess", root, "--subset")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path) == [
        (f"03-01-{code}-{actor}", actor, "", emotion)
        for actor in ("01", "02")
        for code, emotion in (
            ("01-01-01-01", "neutral"), ("03-02-02-02", "happy"), ("04-01-01-01", "sad"), ("05-01-02-01", "angry")
        )
    ]  # fmt: skip
    corpus = read_corpus(tmp_path / "out/corpus.tsv")
    assert {u.frames for u in corpus.utterances} == {1600}
    assert soundfile.info(corpus.root / corpus.utterances[0].path).samplerate == 16000
    assert "48000 Hz, 1 channel: converted" in done.stdout


def test_calm_counts_as_neutral_on_request(root, tmp_path, run_script):
    assert run_script("ravdess", root, "--subset", "--merge-calm").returncode == 0
    assert ("03-01-02-01-01-01-02", "02", "", "neutral") in rows(tmp_path) and len(rows(tmp_path)) == 10


def test_counts_of_the_full_release(root, run_script, fails):
    fails(run_script("ravdess", root), "neutral 2 (full release: 96)", "happy 2 (full release: 192)")
    fails(run_script("ravdess", root, "--merge-calm"), "neutral 4 (full release: 288)")


def test_file_of_another_actor_is_named(root, run_script, speak, fails):
    speak(root / "Actor_01/03-01-05-01-01-01-07.wav")
    fails(run_script("ravdess", root, "--subset"), "Actor_01/03-01-05-01-01-01-07.wav: not a RAVDESS name")


def test_empty_folder(tmp_path, run_script, fails):
    fails(run_script("ravdess", tmp_path), "Actor_01")
