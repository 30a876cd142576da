from collections import Counter

import pytest
from support import dialog, wav, write_dialog, write_full_iemocap

from flea_fairseq.data.corpus import read_corpus


@pytest.fixture
def root(tmp_path, speak):
    """Two dialogs with all the release's oddities; audio only where a kept utterance needs it."""
    root = tmp_path / "IEMOCAP_full_release"
    first = [
        ("Ses01F_impro01_F000", "neu"),
        ("Ses01F_impro01_M003", "exc"),  # the man speaks, though the file name begins with Ses01F
        ("Ses01F_impro01_M004", "xxx"),
        ("Ses01F_impro01_F001", "fru"),
        ("Ses01F_impro01_F002", "hap"),
    ]
    second = [
        ("Ses02M_script01_1b_F010", "ang"),
        ("Ses02M_script01_1b_M011", "sad"),
        *[(f"Ses02M_script01_1b_M{n:03d}", code) for n, code in enumerate(("sur", "fea", "dis", "oth"), start=20)],
    ]
    write_dialog(root, 1, "Ses01F_impro01", dialog(*first))
    write_dialog(root, 2, "Ses02M_script01_1b", dialog(*second), newline="\r\n")
    for turn in ("Ses01F_impro01_F000", "Ses01F_impro01_M003", "Ses01F_impro01_F002"):
        speak(wav(root, 1, turn), 1600)
    for turn in ("Ses02M_script01_1b_F010", "Ses02M_script01_1b_M011"):
        speak(wav(root, 2, turn), 2400)
    write_dialog(root, 1, "._Ses01F_impro01", "\x00\x05\x16\x07\n[resource fork\n")
    for folder in ("Attribute", "Categorical", "Self-evaluation"):
        write_dialog(root, 1, f"{folder}/Ses01F_impro01_e2", "Ses01F_impro01_F000 :Neutral state; ()\n")
    return root


def test_release_layout(root, tmp_path, run_script):
    done = run_script("iemocap", root, "--subset")
    assert done.returncode == 0, done.stderr
    corpus = read_corpus(tmp_path / "out/corpus.tsv")
    assert corpus.root == root.resolve()
    one, two = "Session1/sentences/wav/Ses01F_impro01", "Session2/sentences/wav/Ses02M_script01_1b"
    assert [(u.id, u.path, u.frames, u.speaker, u.session, u.emotion) for u in corpus.utterances] == [
        ("Ses01F_impro01_F000", f"{one}/Ses01F_impro01_F000.wav", 1600, "Ses01F", "Ses01", "neutral"),
        ("Ses01F_impro01_M003", f"{one}/Ses01F_impro01_M003.wav", 1600, "Ses01M", "Ses01", "happy"),
        ("Ses01F_impro01_F002", f"{one}/Ses01F_impro01_F002.wav", 1600, "Ses01F", "Ses01", "happy"),
        ("Ses02M_script01_1b_F010", f"{two}/Ses02M_script01_1b_F010.wav", 2400, "Ses02F", "Ses02", "angry"),
        ("Ses02M_script01_1b_M011", f"{two}/Ses02M_script01_1b_M011.wav", 2400, "Ses02M", "Ses02", "sad"),
    ]
    assert done.stdout.startswith("5 utterances, 4 speakers, 2 sessions, 0.00 h; angry 1, happy 2, neutral 1, sad 1")
    assert "warning: counts differ" in done.stderr


def test_a_part_is_refused_unless_it_is_meant(root, run_script, fails):
    fails(run_script("iemocap", root), "neu 1 (full release: 1708)", "Ses05 0 (full release: 1241)", "--subset")


@pytest.mark.parametrize(
    "bad, words",
    [
        (("Ses01F_impro01_F000", "neutral"), [":3: emotion 'neutral'", "neu, ang, sad, hap, exc, dis"]),
        (("Ses01F_impro02_F000", "neu"), [":3: turn 'Ses01F_impro02_F000'", "Ses01F_impro01_"]),
        (("Ses01F_impro01_X000", "neu"), [":3: turn 'Ses01F_impro01_X000'"]),
        (("Ses01F_impro01_F000 ", "neu"), [":3: ", "expected"]),
    ],
)
def test_strange_lines_are_named(root, run_script, fails, bad, words):
    path = write_dialog(root, 1, "Ses01F_impro01", dialog(bad))
    fails(run_script("iemocap", root, "--subset"), f"{path}:3: ", *words)


def test_missing_audio_is_listed(root, tmp_path, run_script, fails):
    wav(root, 2, "Ses02M_script01_1b_M011").unlink()
    done = run_script("iemocap", root, "--subset")
    fails(done, "1 of 5 audio files")
    assert "Ses02M_script01_1b_M011.wav  no such audio file" in done.stdout
    assert run_script("iemocap", root, "--subset", "--skip-bad").returncode == 0
    assert len(read_corpus(tmp_path / "out/corpus.tsv").utterances) == 4


def test_not_the_release(tmp_path, run_script, fails):
    fails(run_script("iemocap", tmp_path), "Session1")


def test_totals_of_the_full_release(tmp_path, run_script):
    done = run_script("iemocap", write_full_iemocap(tmp_path / "full"))
    assert done.returncode == 0, done.stderr
    assert "5531 utterances, 10 speakers, 5 sessions" in done.stdout and "warning" not in done.stderr
    emotions = Counter(u.emotion for u in read_corpus(tmp_path / "out/corpus.tsv").utterances)
    assert emotions == {"happy": 1636, "neutral": 1708, "angry": 1103, "sad": 1084}
