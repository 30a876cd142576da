"""The report in a real browser: opened from disk it runs without an error and asks nothing of the network."""

import json
import subprocess
from pathlib import Path

from browser import find_browser
from made_runs import grid_systems, make_run
from names import HOSTILE, IMAGE, SCRIPT, WORDS
from playwright.sync_api import sync_playwright
from test_analysis import example

from flea_fairseq.evaluation.report import report

OWN = "not an origin"  # who asks when Chromium itself does, for its updates


def visit(page: Path, folder: Path) -> tuple[list[str], list[str], str]:
    """What a page said on the console, the addresses that it requested, and its document after loading."""
    log = folder / "net.json"
    ran = subprocess.run(
        [
            find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    net = json.loads(log.read_text(encoding="utf-8"))
    start = net["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    jobs = [event.get("params", {}) for event in net["events"] if event["type"] == start]
    requests = [job["url"] for job in jobs if job.get("initiator", OWN) != OWN]
    return [line for line in ran.stderr.splitlines() if ":CONSOLE:" in line], requests, ran.stdout


def test_the_report_opens_without_errors_and_without_any_request(tmp_path):
    make_run(tmp_path / "run", grid_systems((6, 9), (50, 100)), reference="tapt")
    report(tmp_path / "run")
    console, requests, document = visit(tmp_path / "run/report.html", tmp_path)
    assert console == [] and requests == []
    assert "Layer and K" in document and document.count("<svg") > 5


def test_a_page_with_an_error_and_a_request_is_noticed(tmp_path):
    page = tmp_path / "page.html"
    page.write_text('<!doctype html><img src="http://127.0.0.1:9/x"><script>throw Error("broken")</script>')
    console, requests, _ = visit(page, tmp_path)
    assert requests == ["http://127.0.0.1:9/x"]
    assert len(console) == 1 and "broken" in console[0]


def test_the_report_refuses_what_a_name_could_smuggle_in(tmp_path):
    make_run(tmp_path / "run", name="<img src=http://127.0.0.1:9/x>")
    report(tmp_path / "run")
    page = tmp_path / "run/report.html"
    console, requests, document = visit(page, tmp_path)
    assert console == [] and requests == [] and "&lt;img src=" in document
    page.write_text(page.read_text().replace("</body>", "<img src=http://127.0.0.1:9/x></body>"))
    console, requests, _ = visit(page, tmp_path)
    assert requests == [] and "Content Security Policy" in console[0]


def test_hostile_ids_and_classes_are_text_and_no_script(tmp_path):
    """With the page's policy against scripts, and without it."""
    classes = (*sorted(WORDS)[:3], "<script>window.pwned=1</script>")
    systems = [{"key": "tapt", "title": f"TAPT {IMAGE}", "seeded": True, "group": "tapt"}]
    facts = {"corpus": HOSTILE, "models": [], "reference": "tapt", "hardware": [IMAGE]}
    make_run(tmp_path / "run", systems, classes=classes, name=HOSTILE, **facts)
    found = {**example(HOSTILE, 0.5), "truth": classes[-1]}
    path = tmp_path / "run/results/S1/seed1/attention.json"
    path.write_text(json.dumps({"utterances": 30, "mended": 3, "broken": 4, "examples": [found]}))
    report(tmp_path / "run")
    text = (tmp_path / "run/report.html").read_text()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        for shown in (text, text.replace("Content-Security-Policy", "x")):
            page = browser.new_page()
            page.set_content(shown)
            assert page.evaluate("window.pwned") is None
            assert page.locator("script, img:not([src^='data:'])").count() == 0
            body = page.locator("body").inner_text()
            assert all(name in body for name in (HOSTILE, f"TAPT {IMAGE}", *classes))
        page = browser.new_page()  # a policy outlives its content
        page.set_content(SCRIPT)  # so that this test could fail
        assert page.evaluate("window.pwned") == 1
        browser.close()
