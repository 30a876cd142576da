import numpy as np
import pytest
import soundfile

from flea_fairseq.data.audio import read_audio
from flea_fairseq.data.corpus import read_corpus
from flea_fairseq.data.prepare import Entry, check_totals, prepare
from flea_fairseq.errors import CorpusError


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root/wav").mkdir(parents=True)
    return tmp_path / "root"


def tone(path, samples=16000, sample_rate=16000, channels=1):
    wave = np.random.default_rng(samples).integers(-9000, 9000, (samples, channels)).astype(np.int16)
    soundfile.write(path, wave, sample_rate)
    return wave


def entry(name, emotion="sad", speaker="ann", session=""):
    return Entry(name.split("/")[-1].split(".")[0], name, speaker, session, emotion)


def test_fitting_audio_stays_where_it_is(root, tmp_path, capsys):
    tone(root / "wav/a.wav", 16000)
    tone(root / "wav/b.flac", 20000)
    entries = [entry("wav/a.wav", "sad", "ann", "s1"), entry("wav/b.flac", "happy", "bob", "s1")]
    corpus = prepare(root, entries, tmp_path / "out/corpus.tsv")
    assert corpus.root == root.resolve()
    assert [(u.id, u.path, u.frames, u.speaker, u.session, u.emotion) for u in corpus.utterances] == [
        ("a", "wav/a.wav", 16000, "ann", "s1", "sad"),
        ("b", "wav/b.flac", 20000, "bob", "s1", "happy"),
    ]
    assert read_corpus(tmp_path / "out/corpus.tsv") == corpus
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["corpus.tsv"]
    assert capsys.readouterr().out.startswith("2 utterances, 2 speakers, 1 sessions, 0.00 h; happy 1, sad 1 -> ")


def test_one_file_that_does_not_fit_converts_all(root, tmp_path, capsys):
    fits = tone(root / "wav/fits.wav", 8000)
    tone(root / "wav/fast.wav", 44100, sample_rate=44100)
    tone(root / "wav/both.wav", 9001, sample_rate=48000, channels=2)
    entries = [entry(f"wav/{name}.wav") for name in ("fits", "fast", "both")]
    corpus = prepare(root, entries, tmp_path / "out/corpus.tsv")
    assert corpus.root == (tmp_path / "out/audio").resolve()
    assert [(u.id, u.path, u.frames) for u in corpus.utterances] == [
        ("fits", "fits.flac", 8000),
        ("fast", "fast.flac", 16000),
        ("both", "both.flac", 3001),
    ]
    for utterance in corpus.utterances:
        info = soundfile.info(corpus.root / utterance.path)
        assert (info.frames, info.samplerate, info.channels) == (utterance.frames, 16000, 1)
        assert (info.format, info.subtype) == ("FLAC", "PCM_16")
        original = read_audio(root / f"wav/{utterance.id}.wav")
        assert np.abs(read_audio(corpus.root / utterance.path) - original).max() <= 0.5 / 32768 + 1e-7
    assert np.array_equal(soundfile.read(corpus.root / "fits.flac", dtype="int16")[0], fits[:, 0])
    table = capsys.readouterr().out
    assert "wav/fast.wav  44100 Hz, 1 channel: converted" in table
    assert "wav/both.wav  48000 Hz, 2 channels: converted" in table


def test_equal_file_names_become_utterances_of_their_own(root, tmp_path):
    for folder in ("ann", "bob"):
        (root / folder).mkdir()
        tone(root / folder / "1.wav")
    entries = [Entry("ann_1", "ann/1.wav", "ann", "", "sad"), Entry("bob_1", "bob/1.wav", "bob", "", "sad")]
    corpus = prepare(root, entries, tmp_path / "out/corpus.tsv")
    assert [(u.id, u.path) for u in corpus.utterances] == [("ann_1", "ann_1.flac"), ("bob_1", "bob_1.flac")]


def bad_files(root):
    tone(root / "wav/good.wav")
    tone(root / "wav/cut.wav")
    whole = (root / "wav/cut.wav").read_bytes()
    (root / "wav/cut.wav").write_bytes(whole[:5000])
    (root / "wav/empty.wav").touch()
    (root / "wav/text.wav").write_text("no audio " * 20)
    tone(root / "wav/short.wav", 399)
    tone(root / "wav/brief.wav", 1197, sample_rate=48000)  # 399 samples at 16 kHz
    return [entry(f"wav/{name}.wav") for name in ("gone", "cut", "good", "empty", "text", "short", "brief")]


def test_all_unusable_files_are_listed_at_once(root, tmp_path, capsys):
    with pytest.raises(CorpusError, match="6 of 7 audio files.*wav/gone.wav.*--skip-bad"):
        prepare(root, bad_files(root), tmp_path / "corpus.tsv")
    lines = capsys.readouterr().out.splitlines()
    listed = dict(line.split(maxsplit=1) for line in lines[:6])
    reasons = {"gone": "no such", "cut": "truncated", "empty": "0 bytes", "text": "not audio",
               "short": "too short (399 samples", "brief": "too short (399 samples"}  # fmt: skip
    assert listed.keys() == {f"wav/{name}.wav" for name in reasons}
    for name, reason in reasons.items():
        assert reason in listed[f"wav/{name}.wav"]
    counts = dict(line.strip().split(" of 7 files: ")[::-1] for line in lines[6:])
    assert counts == {"too short": "2", **dict.fromkeys(("no such audio file", "truncated", "the file is empty",
                                                         "not audio that libsndfile can read"), "1")}  # fmt: skip
    assert lines[6].endswith("too short") and not (tmp_path / "corpus.tsv").exists()


def test_unusable_files_are_left_out_on_request(root, tmp_path):
    corpus = prepare(root, bad_files(root), tmp_path / "corpus.tsv", skip_bad=True)
    assert [u.id for u in corpus.utterances] == ["good"]
    with pytest.raises(CorpusError, match="1 of 1 audio files"):
        prepare(root, [entry("wav/gone.wav")], tmp_path / "corpus.tsv", skip_bad=True)


@pytest.mark.parametrize(
    "entries, message",
    [
        ([], "no labelled audio"),
        ([entry("wav/a.wav"), entry("flac/a.flac")], "id 'a' is both wav/a.wav and flac/a.flac"),
        ([entry("../a.wav")], "leaves the corpus root"),
        ([entry("/etc/a.wav")], "leaves the corpus root"),
        ([Entry("../a", "a.wav", "ann", "", "sad")], "leaves the corpus root"),
        ([Entry("x/a", "a.wav", "ann", "", "sad")], "'x/a'"),
        ([entry("wav/a.wav", emotion="very sad")], "one word"),
        ([entry("wav/a.wav", speaker="")], "speaker '' is empty"),
    ],
)
def test_labels_are_checked_before_any_audio(root, tmp_path, entries, message):
    with pytest.raises(CorpusError, match=message):
        prepare(root, entries, tmp_path / "corpus.tsv")


def test_originals_are_never_written_over(root, tmp_path):
    (root / "audio").mkdir()
    before = tone(root / "audio/a.flac", 8000, sample_rate=8000)
    with pytest.raises(CorpusError, match="among the originals"):
        prepare(root, [entry("audio/a.flac")], root / "corpus.tsv")
    assert np.array_equal(soundfile.read(root / "audio/a.flac", dtype="int16")[0], before[:, 0])


def test_totals(capsys):
    check_totals({"sad": 2, "happy": 1}, {"sad": 2, "happy": 1}, subset=False)
    with pytest.raises(CorpusError, match=r"sad 2 \(full release: 3\); fear 0 \(full release: 1\); odd 5 \(full"):
        check_totals({"sad": 2, "happy": 1, "odd": 5}, {"sad": 3, "happy": 1, "fear": 1}, subset=False)
    check_totals({"sad": 2}, {"sad": 3}, subset=True)
    assert "warning" in capsys.readouterr().err
