"""The report of a small run: its numbers by scikit-learn, its page as a browser would parse it."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from flea_fairseq.data.corpus import Corpus, Utterance, write_corpus
from flea_fairseq.data.manifest import Manifest, write_dictionary, write_labels, write_manifest
from flea_fairseq.errors import CorpusError, FormatError
from flea_fairseq.evaluation.predictions import Predictions, write_predictions
from flea_fairseq.evaluation.report import report

CLASSES = ("angry", "happy", "neutral", "sad")
SYSTEMS = [{"key": "flea", "title": "FLEA, attention"}, {"key": "baseline", "title": "Logistic regression"}]


def make_run(run: Path, score: str = "pooled", classes=CLASSES, folds=("S1", "S2")) -> dict:
    """A run folder; gives {(system, fold): (truth, predicted, speakers)}."""
    random, utterances, made = np.random.default_rng(0), [], {}
    for number, fold in enumerate(folds):
        ids = [f"{fold}_{i}" for i in range(30 + 10 * number)]
        speakers = [f"{fold}{'ABB'[i % 3]}" for i in range(len(ids))]
        truth = tuple(random.choice(classes, len(ids)))
        names = tuple(f"{id_}.wav" for id_ in ids)
        folder = run / "folds" / fold
        write_manifest(folder / "test.tsv", Manifest(run, names, (16000,) * len(ids)))
        write_labels(folder / "test.emo", truth)
        write_dictionary(folder / "dict.emo.txt", classes)
        facts = {"fold": fold, "protocol": "inner", "score": score, "transductive": False, "hash": f"hash of {fold}"}
        (folder / "fold.json").write_text(json.dumps(facts))
        utterances += [Utterance(i, n, 16000, s, fold, t) for i, n, s, t in zip(ids, names, speakers, truth)]
        for system, weight in (("flea", 1.5), ("baseline", 0.6)):
            probabilities = random.dirichlet(np.ones(len(classes)), len(ids))
            right = np.array([[t == c for c in classes] for t in truth])
            probabilities += weight * right * random.random((len(ids), 1))
            predictions = Predictions(tuple(ids), truth, tuple(classes), probabilities / probabilities.sum(1)[:, None])
            write_predictions(run / "results" / fold / system / "predictions.tsv", predictions)
            made[system, fold] = (np.array(truth), np.array(predictions.predicted), np.array(speakers))
    write_corpus(run / "corpus.tsv", Corpus(run, tuple(utterances)))
    facts = {"name": "small", "protocol": "inner", "seed": 3, "systems": SYSTEMS, "versions": {"torch": "2.11.0"}}
    (run / "run.json").write_text(json.dumps(facts))
    return made


@pytest.mark.parametrize("score", ["pooled", "mean_of_speakers"])
def test_results_are_means_over_folds(tmp_path, score):
    made = make_run(tmp_path, score)
    report(tmp_path)
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [(r["system"], r["fold"]) for r in rows] == [
        (s, f) for s in ("flea", "baseline") for f in ("S1", "S2", "mean")
    ]
    for system in ("flea", "baseline"):
        values = []
        for fold in ("S1", "S2"):
            truth, predicted, speakers = made[system, fold]
            parts = [np.full(len(truth), True)] if score == "pooled" else [speakers == s for s in sorted(set(speakers))]
            values.append(
                [
                    np.mean([f(truth[part], predicted[part]) for part in parts])
                    for f in (balanced_accuracy_score, accuracy_score)
                ]
            )
            row = next(r for r in rows if (r["system"], r["fold"]) == (system, fold))
            assert [row["ua"], row["wa"]] == pytest.approx(values[-1], abs=1e-6)
            assert (row["protocol"], row["seed"], row["n"]) == ("inner", 3, len(truth))
            assert row["split"] == f"hash of {fold}"
        mean = next(r for r in rows if (r["system"], r["fold"]) == (system, "mean"))
        assert [mean["ua"], mean["wa"]] == pytest.approx(np.mean(values, 0), abs=1e-6)
        assert [mean["ua_std"], mean["wa_std"]] == pytest.approx(np.std(values, 0, ddof=1), abs=1e-6)
        assert mean["ua_ci"][0] < mean["ua"] < mean["ua_ci"][1] and mean["n"] == 70 and mean["folds"] == 2


def test_the_same_run_gives_the_same_bytes(tmp_path):
    make_run(tmp_path)
    files = [tmp_path / name for name in ("results.json", "report.html")]
    report(tmp_path)
    first = [file.read_bytes() for file in files]
    report(tmp_path)
    assert [file.read_bytes() for file in files] == first


def test_one_fold_has_no_deviation_and_a_missing_class_is_named(tmp_path):
    make_run(tmp_path, folds=("S1",))
    labels = (tmp_path / "folds/S1/test.emo").read_text().replace("happy", "sad")
    (tmp_path / "folds/S1/test.emo").write_text(labels)
    for system in ("flea", "baseline"):
        path = tmp_path / "results/S1" / system / "predictions.tsv"
        header, *lines = [line.split("\t") for line in path.read_text().splitlines()]
        for line, label in zip(lines, labels.split()):
            line[1] = label
        path.write_text("".join("\t".join(line) + "\n" for line in [header, *lines]))
    rows = report(tmp_path)["rows"]
    assert rows[0]["absent"] == ["happy"]
    assert rows[1]["ua_std"] is None and rows[1]["wa_std"] is None
    assert "Nobody shows happy" in (tmp_path / "report.html").read_text()


def test_the_printed_table(tmp_path):
    make_run(tmp_path)
    for fold, auc in (("S1", 0.5), ("S2", 0.54)):
        frames = {"frame_ua": 0.4, "frame_chance": 0.25, "attention_auc": auc, "energy_auc": 0.6, "auc_chance": 0.5}
        (tmp_path / "results" / fold / "frames.json").write_text(json.dumps(frames))
    result = report(tmp_path)
    mean = next(row for row in result["rows"] if row["fold"] == "mean")
    lines = result["table"].splitlines()
    assert lines[0].split() == ["system", "protocol", "seed", "UA", "%", "WA", "%", "folds", "n"]
    start = f"{100 * mean['ua']:.1f} [{100 * mean['ua_ci'][0]:.1f}, "
    assert lines[1].startswith(f"FLEA, attention      inner     3     {start}")
    assert lines[-2].split() == ["AUC", "of", "the", "attention", "weights", "0.520", "0.500"]
    assert "no proof of emotion at a frame" in (tmp_path / "report.html").read_text()


class Page(HTMLParser):
    """Collects elements, the addresses they ask for, and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href", "action", "data") and v]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone_and_escapes_names(tmp_path):
    classes = ("<script>alert(1)</script>", "$x^2$", "--><img/src=x>", "sad&\"'")
    make_run(tmp_path, classes=classes)
    facts = json.loads((tmp_path / "run.json").read_text())
    facts["name"] = facts["systems"][0]["title"] = "<b onclick=alert(2)>&amp;</b>"
    (tmp_path / "run.json").write_text(json.dumps(facts))
    report(tmp_path)
    page = Page(tmp_path / "report.html")
    assert page.tags.count("svg") == 3 and page.tags.count("table") == 5
    assert not {"script", "img", "link", "iframe", "b", "object"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    for name in (*classes, facts["name"]):
        assert name in page.text


def test_predictions_of_other_utterances_are_refused(tmp_path):
    make_run(tmp_path)
    path = tmp_path / "results/S2/flea/predictions.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(CorpusError, match="predictions.tsv: 39 utterances that are not the 40 of the fold"):
        report(tmp_path)
    path.unlink()
    with pytest.raises(FormatError, match="S2/flea/predictions.tsv: no such file"):
        report(tmp_path)


def test_a_run_without_its_facts_is_refused(tmp_path):
    make_run(tmp_path)
    (tmp_path / "run.json").write_text('{"name": "small"}')
    with pytest.raises(FormatError, match="run.json: lacks protocol, seed, systems"):
        report(tmp_path)


def test_folds_of_another_protocol_are_refused_and_transductive_ones_said(tmp_path):
    make_run(tmp_path)
    report(tmp_path)
    assert "heard the training part only" in (tmp_path / "report.html").read_text()
    path = tmp_path / "folds/S2/fold.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "transductive": True}))
    report(tmp_path)
    assert "heard all recordings, the tested ones too" in (tmp_path / "report.html").read_text()
    path.write_text(json.dumps({**facts, "protocol": "oracle"}))
    with pytest.raises(CorpusError, match="S2/fold.json: protocol 'oracle', but .*run.json says 'inner'"):
        report(tmp_path)
