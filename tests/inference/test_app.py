"""`flea app` in headless Chromium: a file dropped, its result seen, a span clicked, a download read back."""

import json
import socket
import time

import numpy as np
import pytest
import soundfile
from browser import find_browser
from names import IMAGE, TOUCH
from playwright.sync_api import expect, sync_playwright

from flea_fairseq import EmotionRecognizer
from flea_fairseq.inference.app import app

SECONDS = 60_000  # milliseconds that an answer may take


def serve(recognizer):
    """The page on a free port, with limits that a test can exceed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return app(recognizer, port=port, most_seconds=120, most_megabytes=20, block=False)


@pytest.fixture(scope="module")
def address(recognizer):
    page = serve(recognizer)
    yield page.local_url
    page.close()


@pytest.fixture(scope="module")
def chromium():
    browser = find_browser()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield opened
        opened.close()


@pytest.fixture
def page(chromium, address):
    tab = visit(chromium, address)
    yield tab
    tab.close()


def visit(chromium, address):
    """A fresh tab; whatever it asks of another machine is refused, and collected."""
    tab = chromium.new_page(viewport={"width": 1200, "height": 1600})
    tab.outside = []

    def only_here(route):
        if route.request.url.startswith((address, "blob:", "data:")):
            route.continue_()
        else:
            tab.outside.append(route.request.url)
            route.abort()

    tab.route("**/*", only_here)
    tab.goto(address)
    expect(tab.get_by_text("Which emotion, and when")).to_be_visible(timeout=SECONDS)
    return tab


def drop(page, path) -> None:
    page.locator("#audio input[type=file]").set_input_files(path)


def clear(page) -> None:
    page.locator("#audio").get_by_label("Clear").click()


def test_a_file_its_result_a_span_and_the_downloads(page, recognizer, long_wav, tmp_path):
    said = recognizer.predict_file(long_wav)
    drop(page, long_wav)
    expect(page.locator("#timeline img")).to_be_visible(timeout=SECONDS)
    expect(page.locator("#verdict")).to_contain_text(said.emotion)
    expect(page.get_by_text("no proof of emotion")).to_be_visible()

    page.locator('#segments [data-row="1"][data-col="2"]').first.click(timeout=5000)
    second = said.segments[1]
    expect(page.locator("#span")).to_contain_text(f"{second.emotion}, {second.start:.2f}", timeout=SECONDS)
    with page.expect_download() as download:
        page.locator("#download-json").click()
    values = json.loads(open(download.value.path()).read())
    assert [s["emotion"] for s in values["segments"]] == [s.emotion for s in said.segments]
    assert values["probabilities"][said.emotion] == pytest.approx(said.probabilities.max(), abs=1e-4)
    with page.expect_download() as download:
        page.locator("#download-textgrid").click()
    assert download.value.suggested_filename == "timeline.TextGrid"
    assert 'class = "IntervalTier"' in open(download.value.path()).read()


def test_a_click_on_the_timeline_plays_that_segment(page, recognizer, long_wav):
    from flea_fairseq.inference.timeline import render_timeline

    said = recognizer.predict_file(long_wav)
    picture, last = render_timeline(said), said.segments[-1]
    drop(page, long_wav)
    image = page.locator("#timeline img")
    expect(image).to_be_visible(timeout=SECONDS)
    box = image.bounding_box()
    scale = min(box["width"] / picture.pixels.shape[1], box["height"] / picture.pixels.shape[0])
    left = (box["width"] - scale * picture.pixels.shape[1]) / 2  # the picture is fitted into its box
    at = picture.left + (picture.right - picture.left) * (last.start + last.end) / 2 / said.seconds
    image.click(position={"x": left + scale * at, "y": box["height"] / 2})
    expect(page.locator("#span")).to_contain_text(f"{last.emotion}, {last.start:.2f}", timeout=SECONDS)


@pytest.mark.parametrize("kind", ["text", "empty", "no samples", "too long"])
def test_a_file_that_cannot_be_used_gets_a_message_and_the_page_goes_on(page, kind, wav, tmp_path):
    path = tmp_path / "mine.wav"
    if kind == "text":
        path.write_text("this is no sound\n" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0, dtype=np.float32), 16000)
    else:
        soundfile.write(path, np.zeros(121 * 16000, dtype=np.float32), 16000)
    drop(page, path)
    said = page.locator("#problem")
    expect(said).to_contain_text("This file cannot be used", timeout=SECONDS)
    message = {
        "text": "not audio",
        "empty": "empty (0 bytes)",
        "no samples": "holds no samples",
        "too long": "2 minutes are more than 2",
    }
    expect(said).to_contain_text(message[kind])
    assert str(tmp_path) not in said.inner_text() and "Traceback" not in page.content()
    clear(page)
    drop(page, wav)
    expect(page.locator("#timeline img")).to_be_visible(timeout=SECONDS)
    expect(said).not_to_be_visible()


def test_a_file_of_a_gigabyte_is_refused_and_the_page_goes_on(page, wav, tmp_path):
    path = tmp_path / "huge.wav"
    with open(path, "wb") as file:
        file.write(wav.read_bytes())
        file.truncate(1_000_000_000)
    drop(page, path)
    expect(page.get_by_text("maximum allowed size").or_(page.get_by_text("20mb")).first).to_be_visible(
        timeout=4 * SECONDS
    )
    page.reload()
    drop(page, wav)
    expect(page.locator("#timeline img")).to_be_visible(timeout=SECONDS)


def test_nothing_is_asked_of_another_machine(page, wav):
    drop(page, wav)
    expect(page.locator("#timeline img")).to_be_visible(timeout=SECONDS)
    assert page.outside == []


def test_uploads_are_deleted_with_the_page_and_names_are_text(chromium, model_file, wav, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    recognizer = EmotionRecognizer.from_pretrained(model_file)
    evil = '<img src="http://127.0.0.1:9/x" onerror="window.pwned=1"><script>window.pwned=1</script>'
    recognizer.model.classes = tuple(f"{name} {evil}" for name in recognizer.classes)
    served = serve(recognizer)
    tab = visit(chromium, served.local_url)
    drop(tab, wav)
    expect(tab.locator("#timeline img")).to_be_visible(timeout=SECONDS)
    expect(tab.locator("#verdict")).to_contain_text("<img src=")
    expect(tab.locator("#segments")).to_contain_text("<img src=")
    assert tab.locator('img[src="http://127.0.0.1:9/x"]').count() == 0 and tab.outside == []
    clear(tab)
    broken = tmp_path / f"{IMAGE} {TOUCH}.wav"
    broken.write_text("no sound")
    drop(tab, broken)
    expect(tab.locator("#problem")).to_contain_text("not audio", timeout=SECONDS)
    assert tab.evaluate("window.pwned") is None and tab.locator('img[src="x"]').count() == 0
    assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()]
    tab.close()
    served.close()
    deadline = time.monotonic() + 10
    while (left := [p for p in (tmp_path / "uploads").rglob("*") if p.is_file()]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []
