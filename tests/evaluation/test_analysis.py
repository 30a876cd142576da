"""The analysis of a run whose numbers are known: its parts, its figures' lines, its page as a browser parses it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined

from flea_fairseq.data.manifest import write_dictionary
from flea_fairseq.errors import FormatError
from flea_fairseq.evaluation.analysis import clusters, learning, read_analysis
from flea_fairseq.evaluation.analysis_figures import attention_figure, learning_figure, points_a_line, projection_figure
from flea_fairseq.evaluation.curves import Curves
from flea_fairseq.evaluation.figures import ACCENT

CLASSES = ["angry", "happy", "neutral", "sad"]
NASTY = "<script>alert(1)</script>&amp;\"'$x^2$"


def example(id_: str, change: float, frames: int = 60) -> dict:
    random = np.random.default_rng(len(id_))
    weights = random.dirichlet(np.ones(frames))
    answer = {"prediction": "sad", "probability": 0.75, "truth": 0.125}
    return {
        "id": id_, "truth": "happy", "change": change, "mean": answer, "attention": {**answer, "prediction": "happy"},
        "low": (-random.random(frames)).tolist(), "high": random.random(frames).tolist(),
        "weights": weights.tolist(), "uniform": 1 / frames,
    }  # fmt: skip


def side(knn: float, count: int) -> dict:
    points = np.random.default_rng(int(100 * knn)).standard_normal((count, 2)).round(3)
    return {"points": points.tolist(), "knn": knn, "silhouette": 0.125}


def projected(emotions=("angry", "sad"), count: int = 40) -> dict:
    return {
        "layer": 3, "emotions": [emotions[i % len(emotions)] for i in range(count)], "neighbours": 10,
        "utterances": [f"u{i % 8}" for i in range(count)], "before": side(0.4, count), "after": side(0.6, count),
        "knn_chance": 0.5, "silhouette_chance": 0.0,
    }  # fmt: skip


def unit_scores(clusters: int, purity: float, pnmi: float | None = 0.25) -> dict:
    pairs = {"purity": {"value": purity, "chance": 0.3}, "cluster_purity": {"value": 0.1, "chance": 0.05}}
    target = {"labels": 4, **pairs, "pnmi": {"value": pnmi, "chance": pnmi and 0.01}}
    facts = {"clusters": clusters, "used": clusters - 2, "perplexity": 20.5, "utterances": 9, "frames": 900}
    return {**facts, "emotion": target, "speaker": target}


def log_lines(epochs: int, best: int | None = None) -> str:
    lines = []
    for epoch in range(1, epochs + 1):
        if best:
            lines.append(json.dumps({"epoch": epoch, "valid_ua": str(0.3 + epoch / 100)}))
            kind = "best" if epoch == best else "last"
            lines.append(f"Saved checkpoint x/checkpoint_{kind}.pt (epoch {epoch} @ {epoch * 10} updates)")
        lines.append(json.dumps({"epoch": epoch, "train_loss": str(4 / epoch), "train_num_updates": str(epoch * 10)}))
    return "\n".join(lines) + "\n"


TITLE = f"TAPT {NASTY}"
FACTS = {
    "folds": ["S1", "S2"],
    "seeds": [1, 2],
    "systems": [{"key": "tapt", "title": TITLE, "seeded": True}],
    "models": ["tapt_pretrain", "tapt"],
}


def write_json(path: Path, values: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Two folds, of which the second has one seed only."""
    folder = tmp_path_factory.mktemp("run")
    write_dictionary(folder / "folds/S1/dict.emo.txt", CLASSES)
    for fold, seed in (("S1", "seed1"), ("S1", "seed2"), ("S2", "seed1")):
        for name, log in {"tapt_pretrain": log_lines(5), "tapt": log_lines(8, 3 + int(seed[-1]))}.items():
            path = folder / "models" / fold / seed / name / "run/train.log"
            path.parent.mkdir(parents=True)
            path.write_text(log)
        purity = 0.4 if fold == "S1" else 0.7
        sets = {"tapt_l11_km50": (50, 0.5), "tapt_l9_km100": (100, 0.7), "tapt_l9_km50": (50, purity)}
        for name, values in sets.items():
            write_json(folder / "results" / fold / seed / f"units/{name}.json", unit_scores(*values))
    write_json(folder / "results/S1/seed1/projection.json", projected())
    for fold, changes in (("S1", (0.5, 0.1, -0.2)), ("S2", (0.75, -0.3))):
        examples = [example(f"{fold}_{i}{NASTY}", change) for i, change in enumerate(changes)]
        values = {"utterances": 30, "mended": 3, "broken": 4, "examples": examples}
        write_json(folder / "results" / fold / "seed1/attention.json", values)
    return folder


@pytest.fixture(scope="module")
def analysis(run) -> dict:
    return read_analysis(run, FACTS)


class Page(HTMLParser):
    """Collects tags, the addresses they ask for, the cells of tables, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.rows, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href", "xlink:href", "action", "data") and v]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.text += data
        if self.rows and self.rows[-1] and not self.rows[-1][-1].endswith("|"):
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1][-1] += "|"


def rendered(analysis: dict) -> Page:
    loader = PackageLoader("flea_fairseq.evaluation", "")
    settings = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return Page(
        Environment(loader=loader, **settings).get_template("report_analysis.html.j2").render(analysis=analysis)
    )


def lines(svg: str, colour: str = ACCENT) -> list[np.ndarray]:
    """The points of each line that is drawn in a colour: (N, 2)."""
    found = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none; stroke: {colour}', svg)
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", path), dtype=float) for path in found]


def is_line_of(points: np.ndarray, x, y) -> bool:
    """Whether drawn points are these values, but for scale and rounding; y goes down in SVG."""
    fits = [np.polyfit(values, drawn, 1) for values, drawn in ((x, points[:, 0]), (y, points[:, 1]))]
    near = [np.allclose(np.polyval(f, v), p, atol=0.11) for f, v, p in zip(fits, (x, y), points.T)]
    return all(near) and fits[0][0] > 0 > fits[1][0]


def test_trainings_are_summed_up_by_model(analysis):
    pretraining, classifiers = analysis["learning"]
    assert (pretraining["title"], classifiers["title"]) == ("Pretraining", "Classifiers")
    [model] = pretraining["models"]
    assert (model["title"], model["trainings"], model["updates"], model["epochs"]) == ("tapt_pretrain", 3, 50, [])
    assert model["loss"] == pytest.approx(4 / 5) and model["ua"] is None
    [model] = classifiers["models"]  # epochs 4 and 5 were kept, two and one time
    assert model["title"] == TITLE and model["epochs"] == [4, 5]
    assert model["ua"] == pytest.approx((0.34 + 0.35 + 0.34) / 3) and model["loss"] == pytest.approx(0.5)


def test_without_a_list_of_models_the_folder_gives_it(run, analysis):
    facts = {key: value for key, value in FACTS.items() if key != "models"}
    assert learning(run, facts) == analysis["learning"]


def test_clusters_are_means_in_order_of_layer_and_k(analysis):
    rows = analysis["clusters"]
    assert [(row["source"], row["layer"], row["clusters"]) for row in rows] == [
        ("tapt", 9, 50), ("tapt", 9, 100), ("tapt", 11, 50),
    ]  # fmt: skip
    assert rows[0]["emotion"]["purity"] == pytest.approx({"value": (0.4 + 0.4 + 0.7) / 3, "chance": 0.3})
    assert rows[0]["used"] == 48 and rows[0]["sets"] == 3
    [row] = clusters([{"name": "mfcc", **unit_scores(50, 0.7, pnmi)} for pnmi in (0.5, None)])
    assert (row["source"], row["layer"]) == ("mfcc", 0)
    assert row["emotion"]["pnmi"] == {"value": None, "chance": None}


def test_examples_of_all_folds_are_ranked_together(analysis):
    attention = analysis["attention"]
    assert (attention["utterances"], attention["mended"], attention["broken"]) == (60, 6, 8)
    shown = {kind["title"]: [(e["fold"], e["change"]) for e in kind["examples"]] for kind in attention["kinds"]}
    assert shown == {
        "Helped most": [("S2", 0.75), ("S1", 0.5), ("S1", 0.1)],
        "Hurt most": [("S2", -0.3), ("S1", -0.2)],
    }


def test_the_page_says_the_numbers_and_escapes_names(analysis):
    page = rendered(analysis)
    cells = [[cell.rstrip("|") for cell in row] for row in page.rows]
    assert ["tapt_pretrain", "3", "50", "0.80"] in cells
    assert [TITLE, "3", "80", "0.50", "34.3", "4 to 5"] in cells
    assert ["S1, seed 1", "0.400", "0.600", "0.500", "0.125", "0.125", "0.000"] in cells
    assert ["tapt", "9", "50", "48.0", "20.5", *["0.5000.300", "0.1000.050", "0.2500.010"] * 2] in cells
    assert f"S2_0{NASTY}: happy" in page.text
    assert "Average pooling said sad (75 %), attention pooling happy (75 %)" in page.text
    assert page.tags.count("svg") == 2 + 1 + 5 and page.tags.count("details") == 2
    assert not {"script", "img", "link", "iframe", "b", "object"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)


def test_parts_without_files_are_left_out(tmp_path):
    analysis = read_analysis(tmp_path, FACTS)
    assert analysis == {"learning": None, "clusters": None, "projection": None, "attention": None}
    page = rendered(analysis)
    assert page.tags == [] and not page.text.strip()


def test_a_file_that_lacks_its_numbers_is_refused(tmp_path):
    write_json(tmp_path / "results/S1/seed1/projection.json", {"layer": 3})
    with pytest.raises(FormatError, match="projection.json: lacks emotions, utterances, before, after"):
        read_analysis(tmp_path, FACTS)


def test_the_same_run_gives_the_same_figures(run, analysis):
    assert read_analysis(run, FACTS) == analysis


def test_lines_are_the_losses_and_scores():
    loss, ua = [(10, 4.0), (20, 2.0), (30, 2.5), (40, 1.0)], [(1, 0.3), (2, 0.75), (3, 0.5)]
    drawn = lines(learning_figure("m", [Curves(loss, ua, 2)], 0.25))
    assert [is_line_of(points, *zip(*curve)) for points, curve in zip(drawn, (loss, ua))] == [True, True]
    assert not is_line_of(drawn[0], *zip(*loss[::-1])) and len(drawn) == 2


def test_the_curve_is_the_attention():
    shown = example("u", 0.5)
    [points] = lines(attention_figure(shown))
    assert is_line_of(points, np.arange(60), shown["weights"])


def test_every_frame_is_shown_with_its_emotions_shape():
    svg = projection_figure(projected(("angry", "sad", NASTY), 40))
    uses = re.findall(r'<use xlink:href="#(m\w+)"', svg)
    counts = sorted(uses.count(marker) for marker in set(uses))
    assert counts == [1, 1, 1, 2 * 13, 2 * 13, 2 * 14]  # the legend's, which are larger, and both sides
    assert "<script>" not in svg


def test_long_lines_are_thinned_out_and_many_more_so():
    curves = [Curves([(i, float(i % 7)) for i in range(1, 20001)], [], None)] * 3
    assert all(len(points) <= 300 for points in lines(learning_figure("m", curves, 0.25)))
    assert all(len(points) <= 60 for points in lines(learning_figure("m", curves, 0.25, 60)))
    assert len(attention_figure(example("u", 0.5, frames=5000))) < 25000
    assert points_a_line(3) == 300 and points_a_line(400) == 150 and points_a_line(10**6) == 40
