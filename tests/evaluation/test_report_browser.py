"""The report in a real browser: opened from disk it runs without an error and asks nothing of the network."""

import json
import subprocess
from pathlib import Path

from browser import find_browser
from made_runs import grid_systems, make_run

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
