"""The grid of layer, K and pooling, for a run in which every cell's UA is known."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from made_runs import grid_systems, make_run
from test_report import Page

from flea_fairseq.evaluation.grid import read_grid
from flea_fairseq.evaluation.report import report

LAYERS, CLUSTERS, POOLINGS = (6, 9, 11), (50, 100), ("mean", "attention")
UA = {  # in %: of 20 utterances of each class so many twentieths are right
    (layer, k, pooling): 5 * (3 + 2 * i + 5 * j + p)
    for i, layer in enumerate(LAYERS)
    for j, k in enumerate(CLUSTERS)
    for p, pooling in enumerate(POOLINGS)
}
UA["tapt"] = 10


def answers(system: str, fold: str, seed: int | str, truth: np.ndarray) -> np.ndarray:
    """The first of each class are right, the others the next class."""
    cell = re.fullmatch(r"flea_l(\d+)_k(\d+)_(\w+)", system)
    ua = UA[(int(cell[1]), int(cell[2]), cell[3]) if cell else system]
    return np.where(np.arange(80) // 4 < ua // 5, truth, (truth + 1) % 4)


def made_grid(folder: Path, systems: Sequence[dict]) -> tuple[list[dict], Page]:
    make_run(folder, systems, answers, truth_of=lambda _: np.arange(80) % 4, reference="tapt")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # matplotlib's word for a figure that does not fit
        return report(folder)["rows"], Page(folder / "report.html")


@pytest.fixture(scope="module")
def whole_grid(tmp_path_factory) -> Page:
    return made_grid(tmp_path_factory.mktemp("run"), grid_systems(LAYERS, CLUSTERS))[1]


def figures(page: Page, label: str) -> list[str]:
    return re.findall(rf'<svg role="img" aria-label="{label}.*?</svg>', page.source, re.DOTALL)


def words(svg: str) -> list[tuple[float, float, str]]:
    """The texts of a figure with their places: (y, x, text)."""
    found = re.findall(r"<text [^>]*?rotate\(-?0 ([\d.]+) ([\d.]+)\)[^>]*>([^<]*)</text>", svg)
    return sorted((round(float(y)), float(x), text) for x, y, text in found)


def test_heat_maps_hold_the_ua_of_each_cell_at_its_place(whole_grid):
    maps = figures(whole_grid, "UA in %")
    assert len(maps) == 2
    for pooling, title, svg in zip(POOLINGS, ("average pooling", "attention pooling"), maps):
        placed = words(svg)
        texts = [text for _, _, text in placed]
        assert title in texts
        cells = [f"{UA[layer, k, pooling]:.1f}" for layer in LAYERS for k in CLUSTERS]  # rows from the top
        assert [text for text in texts if re.fullmatch(r"\d+\.\d", text)] == cells
        where = {text: (y, x) for y, x, text in placed}
        for layer in LAYERS:  # the number of the layer stands beside its row
            assert abs(where[str(layer)][0] - where[f"{UA[layer, 50, pooling]:.1f}"][0]) < 6
        for k in CLUSTERS:  # and that of K below its column
            for layer in LAYERS:
                y, x = where[f"{UA[layer, k, pooling]:.1f}"]
                assert abs(where[str(k)][1] - x) < 6 and where[str(k)][0] > y
        bold = re.findall(r"font-weight: 700[^>]*>([\d.]+)<", svg)
        assert bold == [f"{max(UA[layer, k, pooling] for layer in LAYERS for k in CLUSTERS):.1f}"]


def test_the_figure_of_all_systems_has_each_at_its_height_and_marks_chance(whole_grid):
    (svg,) = figures(whole_grid, "UA of each system")
    placed = words(svg)
    titles = [text for _, _, text in placed if "pooling" in text]
    assert titles == [system["title"] for system in grid_systems(LAYERS, CLUSTERS)]
    x = {text.strip(): at for _, at, text in placed}
    scale = (x["60"] - x["20"]) / 40
    assert abs(x["chance"] - (x["20"] + 5 * scale)) < 6  # chance is 25 %


def test_table_1_has_the_rows_of_the_paper(whole_grid):
    header, *rows = whole_grid.table("UA / WA in %, as in Table 1")
    assert header == ["System", "average pooling", "attention pooling"]
    expected = [["TAPT, average pooling", "10.0 / 10.0", "-"]] + [
        [f"layer {layer}, K {k}", *(f"{UA[layer, k, p]:.1f} / {UA[layer, k, p]:.1f}" for p in POOLINGS)]
        for layer in LAYERS
        for k in CLUSTERS
    ]
    assert rows == expected


def test_rows_carry_what_the_systems_are(tmp_path):
    rows, _ = made_grid(tmp_path, grid_systems((6,), (50, 100)))
    row = next(row for row in rows if row["system"] == "flea_l6_k100_attention")
    assert (row["layer"], row["clusters"], row["pooling"], row["group"]) == (6, 100, "attention", "flea")
    assert "layer" not in rows[0]


def test_a_cell_that_was_not_run_is_empty(tmp_path):
    systems = [s for s in grid_systems(LAYERS, CLUSTERS) if s["key"] != "flea_l9_k100_mean"]
    _, page = made_grid(tmp_path, systems)
    texts = [text for _, _, text in words(figures(page, "UA in %")[0])]
    assert [t for t in texts if re.fullmatch(r"\d+\.\d|-", t)] == ["15.0", "40.0", "25.0", "-", "35.0", "60.0"]
    assert ["layer 9, K 100", "-", "55.0 / 55.0"] in page.table("UA / WA in %, as in Table 1")


def test_one_cell_or_none_is_no_grid(tmp_path):
    _, page = made_grid(tmp_path, grid_systems((6,), (50,))[:2])
    assert not any("as in Table 1" in rows[0][0] for rows in page.tables) and "Layer and K" not in page.text
    assert read_grid([]) is None


def test_of_many_systems_the_reference_and_the_extremes_stand_open(whole_grid):
    shown, others = whole_grid.source.split("<summary>The other 10 systems</summary>")
    titles = re.findall(r"<h3>(.*?)</h3>", shown.split('id="confusions"')[1])
    assert titles == [
        "TAPT, average pooling", "FLEA, layer 6, K 50, mean pooling", "FLEA, layer 11, K 100, attention pooling",
    ]  # fmt: skip
    assert "Lowest UA of the grid" in shown and "Highest UA of the grid" in shown
    assert others.split("</details>")[0].count("<h3>") == 10
