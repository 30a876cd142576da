"""Downloads from a server of our own on loopback."""

import contextlib
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from disks import small_disk

from flea_fairseq.errors import FetchError, FleaError
from flea_fairseq.models.fetch import BLOCK, SOURCES, fetch

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(310_000)
FILE = "hubert_base_ls960.pt"


class Handler(BaseHTTPRequestHandler):
    """Serves `server.content`, by ranges where `server.ranges`; hangs up after `server.cut` bytes where that is set."""

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.requests.append((wanted, self.headers.get("If-Range")))
        if self.path.split("?")[0] != "/file":
            self.send_error(404)
            return
        body, start = server.content, 0
        unchanged = self.headers.get("If-Range") in (None, server.validator[1])
        if wanted and server.ranges and unchanged:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.length:
            self.send_header("Content-Length", str(len(body) - start))
        self.send_header(*server.validator)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[start : server.cut])

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.content, running.ranges, running.length, running.cut, running.requests = CONTENT, True, True, None, []
    running.validator = ("ETag", '"one"')
    running.url = f"http://127.0.0.1:{running.server_port}/file"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def digest(content):
    return hashlib.sha256(content).hexdigest()


def failing(*arguments, **settings):
    with pytest.raises(FetchError) as caught:
        fetch("hubert-base", *arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def interrupt(server, folder, cut=100_000):
    """A download that stops after `cut` bytes; returns how many of them were kept."""
    server.cut = cut
    message = failing(folder, server.url)
    assert "run it again to continue" in message and not (folder / FILE).exists()
    server.cut = None
    kept = (folder / f"{FILE}.part").stat().st_size
    assert cut - BLOCK < kept <= cut and (folder / f"{FILE}.part").read_bytes() == server.content[:kept]
    return kept


def test_a_download_is_kept_and_recorded(server, tmp_path):
    path = fetch("hubert-base", tmp_path / "new/cache", server.url)
    assert path == tmp_path / "new/cache" / FILE and path.read_bytes() == CONTENT
    line = f"hubert-base  {digest(CONTENT)}  300000  {server.url}\n"
    assert (path.parent / "weights.lock").read_text() == line
    assert fetch("hubert-base", path.parent, server.url) == path
    assert server.requests == [(None, None)]
    assert {file.name for file in path.parent.iterdir()} == {FILE, "weights.lock", ".lock"}


def test_several_files_have_a_line_each(server, tmp_path):
    fetch("wav2vec2-base", tmp_path, server.url)
    server.content = OTHER
    assert fetch("hubert-km500", tmp_path, server.url).name == "hubert_base_ls960_L9_km500.bin"
    lines = [line.split() for line in (tmp_path / "weights.lock").read_text().splitlines()]
    assert [(line[0], line[1]) for line in lines] == [
        ("hubert-km500", digest(OTHER)),
        ("wav2vec2-base", digest(CONTENT)),
    ]


@pytest.mark.parametrize(
    ("validator", "sent"),
    [
        (("ETag", '"one"'), '"one"'),
        (("Last-Modified", "Mon, 03 Jan 2022 10:00:00 GMT"), "Mon, 03 Jan 2022 10:00:00 GMT"),
    ],
)
def test_an_interrupted_download_goes_on(server, tmp_path, validator, sent):
    server.validator = validator
    kept = interrupt(server, tmp_path)
    assert fetch("hubert-base", tmp_path, server.url).read_bytes() == CONTENT
    assert server.requests == [(None, None), (f"bytes={kept}-", sent)]


def test_it_goes_on_after_a_second_interruption(server, tmp_path):
    first, second = interrupt(server, tmp_path, 100_000), interrupt(server, tmp_path, 200_000)
    assert fetch("hubert-base", tmp_path, server.url).read_bytes() == CONTENT
    assert [wanted for wanted, _ in server.requests] == [None, f"bytes={first}-", f"bytes={second}-"]


def test_a_file_that_changed_in_between_is_fetched_whole(server, tmp_path):
    kept = interrupt(server, tmp_path)
    server.content, server.validator = OTHER, ("ETag", '"two"')
    assert fetch("hubert-base", tmp_path, server.url).read_bytes() == OTHER
    assert server.requests[1:] == [(f"bytes={kept}-", '"one"')]


@pytest.mark.parametrize("validator", [("ETag", 'W/"one"'), ("X-Nothing", "1")])
def test_without_a_strong_validator_it_starts_again(server, tmp_path, validator):
    server.validator = validator
    interrupt(server, tmp_path)
    server.content = OTHER
    assert fetch("hubert-base", tmp_path, server.url).read_bytes() == OTHER
    assert server.requests[-1] == (None, None)


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges = False
    interrupt(server, tmp_path)
    assert fetch("hubert-base", tmp_path, server.url).read_bytes() == CONTENT


def test_a_part_of_another_address_is_not_continued(server, tmp_path):
    interrupt(server, tmp_path)
    server.content = OTHER
    assert fetch("hubert-base", tmp_path, f"{server.url}?mirror").read_bytes() == OTHER
    assert server.requests[-1] == (None, None)


def test_a_part_longer_than_the_file_starts_again(server, tmp_path):
    interrupt(server, tmp_path)
    (tmp_path / f"{FILE}.part").write_bytes(OTHER)
    assert fetch("hubert-base", tmp_path, server.url).read_bytes() == CONTENT
    assert [wanted for wanted, _ in server.requests[1:]] == ["bytes=310000-", None]


def test_a_whole_part_is_not_fetched_again(server, tmp_path):
    interrupt(server, tmp_path)
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT)  # stopped between the last byte and the new name
    assert fetch("hubert-base", tmp_path, server.url).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_server_that_tells_no_length(server, tmp_path):
    server.length = False
    assert fetch("hubert-base", tmp_path, server.url).read_bytes() == CONTENT


def test_a_checksum_that_is_asked_for_is_compared(server, tmp_path):
    message = failing(tmp_path, server.url, digest(OTHER))
    assert digest(CONTENT) in message and digest(OTHER) in message
    assert not (tmp_path / FILE).exists() and not (tmp_path / "weights.lock").exists()
    path = fetch("hubert-base", tmp_path, server.url, digest(CONTENT).upper())
    assert path.read_bytes() == CONTENT and len(server.requests) == 1
    assert digest(OTHER) in failing(tmp_path, server.url, digest(OTHER))


def test_offline_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file"
        message = failing(tmp_path, url)
    assert url in message and f"put the file at {tmp_path / FILE}" in message


def test_a_missing_file_is_said(server, tmp_path):
    url = server.url + "-that-is-not-there"
    message = failing(tmp_path, url)
    assert f"HTTP 404 at {url}" in message and f"put the file at {tmp_path / FILE}" in message
    assert not (tmp_path / f"{FILE}.part").exists()


def test_a_file_put_there_by_hand_is_taken_and_recorded(tmp_path):
    (tmp_path / FILE).write_bytes(CONTENT)
    assert fetch("hubert-base", tmp_path) == tmp_path / FILE
    line = f"hubert-base  {digest(CONTENT)}  300000  put-there-by-hand\n"
    assert (tmp_path / "weights.lock").read_text() == line


def test_a_file_that_was_changed_is_refused_until_it_is_deleted(server, tmp_path):
    path = fetch("hubert-base", tmp_path, server.url)
    path.write_bytes(CONTENT[:-1] + b"x")
    message = failing(tmp_path, server.url)
    assert digest(CONTENT) in message and f"delete {path}" in message and "weights.lock" in message
    path.unlink()
    assert fetch("hubert-base", tmp_path, server.url).read_bytes() == CONTENT


def test_another_file_from_the_server_is_refused_until_the_line_is_deleted(server, tmp_path):
    fetch("hubert-base", tmp_path, server.url).unlink()
    server.content = OTHER
    assert "delete the line of hubert-base" in failing(tmp_path, server.url)
    assert not (tmp_path / FILE).exists()
    (tmp_path / "weights.lock").unlink()
    assert fetch("hubert-base", tmp_path, server.url).read_bytes() == OTHER


def test_a_damaged_lock_is_named(tmp_path):
    (tmp_path / FILE).write_bytes(CONTENT)
    (tmp_path / "weights.lock").write_text("hubert-base abc\n")
    assert "weights.lock:1" in failing(tmp_path)


def test_the_folder_comes_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / FILE).write_bytes(CONTENT)
    monkeypatch.setenv("FLEA_CACHE", str(tmp_path))
    assert fetch("hubert-base") == tmp_path / FILE
    monkeypatch.delenv("FLEA_CACHE")
    home = tmp_path / "home/.cache/flea_fairseq"
    home.mkdir(parents=True)
    (home / FILE).write_bytes(OTHER)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert fetch("hubert-base") == home / FILE


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written or read" in failing(tmp_path / "file/cache")


def test_on_a_full_disk_it_says_so_and_goes_on_where_it_stopped(server, tmp_path):
    with small_disk(tmp_path / "disk", 1024) as disk:
        for pages in (0, 20, 30):  # of 74
            disk.leave(pages)
            with pytest.raises(FleaError, match="No space left on device; free some space, and start the same"):
                fetch("hubert-base", disk.folder, server.url)
            assert not (disk.folder / FILE).exists()
        disk.free()
        assert fetch("hubert-base", disk.folder, server.url).read_bytes() == CONTENT
        assert {file.name for file in disk.folder.iterdir()} == {FILE, "weights.lock", ".lock"}
    began = [int(wanted[6:-1]) for wanted, _ in server.requests if wanted]
    assert len(server.requests) == 4 and 60000 < began[0] < began[1] < len(CONTENT)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(FetchError, match="hubert-base, hubert-km500, wav2vec2-base"):
        fetch("hubert-giant")
    assert all(url.startswith("https://dl.fbaipublicfiles.com/") for url in SOURCES.values())
