"""Every format read back by a reader that is not ours."""

import csv
import io
import json

import numpy as np
import parselmouth
import pytest
from PIL import Image
from pyannote.database.util import load_rttm

from flea_fairseq.inference.formats import FORMATS
from flea_fairseq.inference.timeline import draw_timeline, render_timeline


@pytest.fixture(scope="module")
def said(recognizer, long_wav):
    return recognizer.predict_file(long_wav)


def text(said, name: str) -> str:
    return FORMATS[name].header(said) + FORMATS[name].render(said)


def test_json(said):
    line = text(said, "json")
    values = json.loads(line, parse_constant=pytest.fail)
    assert line.count("\n") == 1 and values["emotion"] == said.emotion
    assert sum(values["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    frames = values["frames"]
    assert sum(frames["attention"]) == pytest.approx(1, abs=1e-3)
    assert len(frames["attention"]) == len(frames["sound"]) == 3099 and sum(frames["attention"]) == pytest.approx(
        1, abs=1e-3
    )
    for column, name in enumerate(said.classes):
        heard = [p for p in frames["probabilities"][name] if p is not None]
        assert np.allclose(heard, said.posteriors[~np.isnan(said.posteriors[:, 0]), column], atol=1e-4)
    assert [s["emotion"] for s in values["segments"]] == [s.emotion for s in said.segments]
    assert "no proof" in values["note"]


def test_csv(said):
    rows = list(csv.DictReader(io.StringIO(text(said, "csv"))))
    assert len(rows) == 3099 and list(rows[0]) == ["id", "start", "attention", *said.classes, "cluster"]
    assert rows[0]["angry"] == "" and float(rows[300]["angry"]) == pytest.approx(said.posteriors[300, 0], abs=1e-4)
    assert float(rows[300]["start"]) == 6.0


def test_rttm_as_pyannote_reads_it(said, tmp_path):
    (tmp_path / "s.rttm").write_text(text(said, "rttm"))
    read = load_rttm(str(tmp_path / "s.rttm"))["long"]
    found = [(segment.start, segment.end, label) for segment, _, label in read.itertracks(yield_label=True)]
    assert [(pytest.approx(a, abs=2e-3), pytest.approx(b, abs=2e-3), c) for a, b, c, _ in said.segments] == found


def test_textgrid_as_praat_reads_it(said, tmp_path):
    (tmp_path / "s.TextGrid").write_text(text(said, "textgrid"))
    grid = parselmouth.read(str(tmp_path / "s.TextGrid"))
    call = parselmouth.praat.call
    assert call(grid, "Get end time") == pytest.approx(62.0) and call(grid, "Get tier name", 1) == "emotion"
    found = []
    for number in range(1, call(grid, "Get number of intervals", 1) + 1):
        if label := call(grid, "Get label of interval", 1, number):
            times = (call(grid, f"Get {edge} time of interval", 1, number) for edge in ("start", "end"))
            found.append((*(pytest.approx(t, abs=1e-3) for t in times), label))
    assert found == [segment[:3] for segment in said.segments] and found


def test_audacity_labels(said):
    rows = [line.split("\t") for line in text(said, "audacity").splitlines()]
    assert [(float(a), float(b), c.split()[0]) for a, b, c in rows] == [segment[:3] for segment in said.segments]


def test_names_of_any_kind_break_no_format(said, tmp_path):
    from dataclasses import replace

    odd = ('an"gry', "<b>\tsad", "a\nb", "x,y")
    names = dict(zip(said.classes, odd))
    segments = tuple(s._replace(emotion=names[s.emotion]) for s in said.segments)
    changed = replace(said, id='my "file", 1\n<x>', classes=odd, segments=segments)
    assert json.loads(text(changed, "json"))["id"] == changed.id
    assert {row["id"] for row in csv.DictReader(io.StringIO(text(changed, "csv"), newline=""))} == {changed.id}
    assert all(len(line.split()) == 10 for line in text(changed, "rttm").splitlines())
    assert all(line.count("\t") == 2 for line in text(changed, "audacity").splitlines())
    (tmp_path / "s.TextGrid").write_text(text(changed, "textgrid"))
    grid = parselmouth.read(str(tmp_path / "s.TextGrid"))
    labels = {parselmouth.praat.call(grid, "Get label of interval", 1, n) for n in range(1, 8)} - {""}
    assert labels <= {" ".join(name.split()) for name in odd} and labels
    draw_timeline(changed, tmp_path / "t.png")


def test_the_picture_is_a_png_and_knows_its_time_axis(said, tmp_path):
    draw_timeline(said, tmp_path / "t.png")
    with Image.open(tmp_path / "t.png") as image:
        assert image.format == "PNG" and min(image.size) > 500
    picture = render_timeline(said)
    assert picture.second(picture.left) == 0 and picture.second(picture.right) == said.seconds
    band = picture.pixels[int(0.84 * len(picture.pixels)), :, :3].astype(int)  # the row of segments
    first = said.segments[0]
    column = picture.left + (picture.right - picture.left) * (first.start + 0.1) / said.seconds
    before = picture.left + (picture.right - picture.left) * (first.start - 1) / said.seconds
    assert (band[int(before)] == 255).all() and not (band[int(column)] == 255).all()
    assert first.start <= picture.second(column) < first.end
