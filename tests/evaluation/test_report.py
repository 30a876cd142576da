"""The report of a small run: its numbers by scikit-learn, its page as a browser would parse it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_runs import CLASSES, make_run
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score
from statsmodels.stats.multitest import multipletests

from flea_fairseq.data.folds import fold_hash
from flea_fairseq.errors import CorpusError, FormatError
from flea_fairseq.evaluation.compare import compare
from flea_fairseq.evaluation.report import report


def rows_of(rows: list[dict], system: str) -> tuple[list[dict], dict]:
    """A system's rows of folds and seeds, and its mean row."""
    *single, mean = [row for row in rows if row["system"] == system]
    return single, mean


@pytest.mark.parametrize("score", ["pooled", "mean_of_speakers"])
def test_results_are_means_over_folds_and_seeds(tmp_path, score):
    made = make_run(tmp_path, score=score)
    report(tmp_path)
    rows = json.loads((tmp_path / "results.json").read_text())
    for system in ("baseline", "tapt", "flea"):
        single, mean = rows_of(rows, system)
        seeds = ["any"] if system == "baseline" else [1, 2]
        assert [(row["fold"], row["seed"]) for row in single] == [(f, s) for f in ("S1", "S2") for s in seeds]
        for row in single:
            truth, predicted, speakers = made[system, row["fold"], row["seed"]]
            parts = [np.full(len(truth), True)] if score == "pooled" else [speakers == s for s in sorted(set(speakers))]
            scores = [np.mean([f(truth[part], predicted[part]) for part in parts]) for f in
                      (balanced_accuracy_score, accuracy_score)]  # fmt: skip
            assert [row["ua"], row["wa"]] == pytest.approx(scores, abs=1e-6)
            assert (row["protocol"], row["transductive"], row["n"]) == ("inner", False, len(truth))
            assert row["split"] == fold_hash(tmp_path / "folds" / row["fold"])
        assert (mean["fold"], mean["folds"], mean["seeds"], mean["n"]) == ("mean", 2, seeds, 70)
        for measure in ("ua", "wa"):
            values = np.array([row[measure] for row in single]).reshape(2, len(seeds))
            assert mean[measure] == pytest.approx(values.mean(), abs=2e-6)
            assert mean[f"{measure}_std"] == pytest.approx(values.std(ddof=1), abs=2e-6)
            by_seed = values.mean(0)
            expected = None if system == "baseline" else pytest.approx(np.std(by_seed, ddof=1), abs=2e-6)
            assert mean[f"{measure}_std_seeds"] == expected
            assert mean[f"{measure}_ci"][0] < mean[measure] < mean[f"{measure}_ci"][1]


def test_the_calibration_error_is_that_of_the_written_probabilities(tmp_path):
    make_run(tmp_path)
    single, mean = rows_of(report(tmp_path)["rows"], "flea")
    for row in single:
        _, *lines = (tmp_path / f"results/{row['fold']}/seed{row['seed']}/flea/predictions.tsv").open()
        said = [line.split("\t") for line in lines]
        pairs = [(max(map(float, fields[3:])), fields[1] == fields[2]) for fields in said]
        bins = [[(p, right) for p, right in pairs if i / 15 < p <= (i + 1) / 15] for i in range(15)]
        expected = sum(abs(sum(right for _, right in each) - sum(p for p, _ in each)) for each in bins) / len(pairs)
        assert row["ece"] == pytest.approx(expected, abs=1e-5)
    assert mean["ece"] == pytest.approx(np.mean([row["ece"] for row in single]), abs=1e-5)


def test_differences_to_the_reference_are_those_of_compare_with_p_corrected(tmp_path):
    make_run(tmp_path, reference="tapt")
    rows = report(tmp_path)["rows"]
    assert "difference" not in rows_of(rows, "tapt")[1]
    differences = [rows_of(rows, system)[1]["difference"] for system in ("baseline", "flea")]
    corrected = multipletests([difference["p"] for difference in differences], method="holm")[1]
    for system, difference, p in zip(("baseline", "flea"), differences, corrected):
        expected = compare(f"{tmp_path}:{system}", f"{tmp_path}:tapt")["difference"]
        assert difference["reference"] == "tapt" and difference["p_holm"] == pytest.approx(p)
        for key in ("ua", "wa", "mcnemar", "p", "verdict"):
            assert difference[key] == expected[key]
        assert difference["ua_ci"] == pytest.approx(expected["ua_ci"], abs=1e-6)


def test_without_a_reference_nothing_is_compared(tmp_path):
    make_run(tmp_path)
    result = report(tmp_path)
    assert not any("difference" in row for row in result["rows"])
    page = (tmp_path / "report.html").read_text()
    assert "UA difference" not in page and "McNemar" not in page


def test_the_same_run_gives_the_same_bytes(tmp_path):
    make_run(tmp_path, reference="tapt")
    files = [tmp_path / name for name in ("results.json", "report.html")]
    report(tmp_path)
    first = [file.read_bytes() for file in files]
    report(tmp_path)
    assert [file.read_bytes() for file in files] == first


def test_one_fold_has_no_deviation_and_a_missing_class_is_named(tmp_path):
    make_run(tmp_path, folds=("S1",), seeds=(1,), truth_of=lambda _: np.arange(60) % 3)
    rows = report(tmp_path)["rows"]
    assert rows[0]["absent"] == ["sad"]
    assert rows[1]["ua_std"] is None and rows[1]["ua_std_seeds"] is None
    assert "Nobody shows sad" in (tmp_path / "report.html").read_text()


def test_the_printed_table(tmp_path):
    make_run(tmp_path, reference="tapt")
    for fold, auc in (("S1", 0.5), ("S2", 0.54)):
        for seed in (1, 2):
            frames = {"frame_ua": 0.4, "frame_chance": 0.25, "attention_auc": auc, "energy_auc": 0.6, "auc_chance": 0.5}
            (tmp_path / f"results/{fold}/seed{seed}/frames.json").write_text(json.dumps(frames))
    result = report(tmp_path)
    lines = result["table"].splitlines()
    assert lines[0].startswith("protocol inner, 2 folds, seeds 1, 2, 70 utterances; 95 % intervals in brackets")
    assert "differences to TAPT" in lines[0]
    mean = rows_of(result["rows"], "flea")[1]
    difference = mean["difference"]
    low, high = (f"{100 * edge:.1f}" for edge in mean["ua_ci"])
    assert lines[4].startswith(f"FLEA, attention      {100 * mean['ua']:.1f} [{low}, {high}]  ")
    assert f"{100 * difference['ua']:+.1f} [" in lines[4] and lines[4].endswith(difference["verdict"])
    assert lines[-2].split() == ["AUC", "of", "the", "attention", "weights", "0.520", "0.500"]
    page = (tmp_path / "report.html").read_text()
    assert "no proof of emotion at a frame" in page and "Over 4 folds and seeds" in page


class Page(HTMLParser):
    """Collects elements, the addresses they ask for, text, and the cells of tables by their caption."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self.in_cell = False
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href", "action", "data") and v]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag == "table":
            self.tables.append([])
        elif tag in ("tr", "caption"):
            self.tables[-1].append([])
        if tag in ("td", "th", "caption"):
            self.tables[-1][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th", "caption")

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.tables[-1][-1][-1] += data.strip() and f"{data.strip()} "

    def table(self, caption: str) -> list[list[str]]:
        """The rows below the caption that begins like this, cells as text."""
        (found,) = [rows for rows in self.tables if rows[0][0].startswith(caption)]
        return [[cell.strip() for cell in row] for row in found[1:]]


def test_the_page_stands_alone_and_escapes_names(tmp_path):
    classes = ("<script>alert(1)</script>", "$x^2$", "--><img/src=x>", "sad&\"'")
    make_run(tmp_path, classes=classes)
    facts = json.loads((tmp_path / "run.json").read_text())
    evil = "<b onclick=alert(2)>&amp;</b>"
    facts["name"] = facts["systems"][0]["title"] = facts["systems"][0]["note"] = evil
    facts["reference"] = facts["systems"][0]["key"]
    (tmp_path / "run.json").write_text(json.dumps(facts))
    report(tmp_path)
    page = Page(tmp_path / "report.html")
    assert page.tags.count("svg") == 4  # UA of each system, and three confusion matrices
    assert not {"script", "img", "link", "iframe", "b", "object"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    for name in (*classes, evil):
        assert name in page.text


def test_the_page_shows_the_numbers_of_the_run(tmp_path):
    made = make_run(tmp_path, reference="tapt", note="x")
    rows = report(tmp_path)["rows"]
    page = Page(tmp_path / "report.html")
    header, *lines = page.table("Means over folds and seeds")
    assert header[:5] == ["System", "UA", "WA", "UA difference", "In words"]
    for line, system in zip(lines, ("baseline", "tapt", "flea")):
        mean = rows_of(rows, system)[1]
        low, high = (f"{100 * edge:.1f}" for edge in mean["ua_ci"])
        assert line[:2] == [mean["title"], f"{100 * mean['ua']:.1f} {low} \u2013 {high}"]
        deviations = [mean["ua_std"], mean["ua_std_seeds"], mean["ece"]]
        assert line[5:] == ["-" if value is None else f"{100 * value:.1f}" for value in deviations]
    assert lines[1][3:5] == ["-", "reference"] and re.match(r"[+-]\d+\.\d [+-]\d+\.\d to [+-]\d+\.\d$", lines[2][3])
    assert lines[2][4] in ("within noise", "better", "worse")

    _, *by_fold, tested = page.table("UA, and WA below, in %: means over seeds")
    assert tested == ["Utterances", "30", "40"]
    scores = [[f(*made["flea", "S1", seed][:2]) for seed in (1, 2)] for f in (balanced_accuracy_score, accuracy_score)]
    assert by_fold[2][1] == " ".join(f"{100 * np.mean(values):.1f}" for values in scores)
    _, *by_seed = page.table("UA, and WA below, in %: means over folds")
    ua = np.mean([balanced_accuracy_score(*made["flea", fold, 2][:2]) for fold in ("S1", "S2")])
    assert by_seed[2][2].startswith(f"{100 * ua:.1f} ") and len(by_seed[0]) == 2  # one cell for a system without seeds
    every = page.table("UA / WA in %")
    assert every[-1][0] == "S2" and len(every[-1]) == 3 and every[-3] == ["FLEA, attention"]

    truth, predicted = (np.concatenate([made["flea", f, s][i] for f in ("S1", "S2") for s in (1, 2)]) for i in (0, 1))
    recalls = recall_score(truth, predicted, labels=CLASSES, average=None)
    assert page.table("%, utterances of all folds")[3] == ["FLEA, attention", *(f"{100 * r:.1f}" for r in recalls)]
    counts = [rows for rows in page.tables if rows[0][0].startswith("Utterances; true")][2][2:]
    expected = confusion_matrix(truth, predicted, labels=CLASSES)
    assert [[int(cell) for cell in row[1:]] for row in counts] == expected.tolist()


def test_predictions_of_other_utterances_are_refused(tmp_path):
    make_run(tmp_path)
    path = tmp_path / "results/S2/seed1/flea/predictions.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(CorpusError, match="predictions.tsv: not the fold's test.tsv with its labels: lacks S2_39; run"):
        report(tmp_path)
    path.unlink()
    with pytest.raises(FormatError, match="S2/seed1/flea/predictions.tsv: no such file"):
        report(tmp_path)


def test_a_run_without_its_facts_is_refused(tmp_path):
    make_run(tmp_path, reference="nobody")
    with pytest.raises(FormatError, match="run.json: systems baseline, tapt, flea, .* reference nobody; expected"):
        report(tmp_path)
    (tmp_path / "run.json").write_text('{"name": "small"}')
    with pytest.raises(FormatError, match="run.json: lacks protocol, seeds, folds, systems"):
        report(tmp_path)


def test_folds_of_another_protocol_are_refused_and_transductive_ones_said(tmp_path):
    make_run(tmp_path)
    assert not report(tmp_path)["rows"][-1]["transductive"]
    assert "heard the training part only" in (tmp_path / "report.html").read_text()
    path = tmp_path / "folds/S2/fold.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "transductive": True}))
    rows = report(tmp_path)["rows"]
    assert [row["transductive"] for row in rows_of(rows, "baseline")[0]] == [False, True]
    assert rows[-1]["transductive"]
    assert "heard all recordings, the tested ones too" in (tmp_path / "report.html").read_text()
    path.write_text(json.dumps({**facts, "protocol": "oracle"}))
    with pytest.raises(CorpusError, match="S2/fold.json: protocol 'oracle', but .*run.json says 'inner'"):
        report(tmp_path)
