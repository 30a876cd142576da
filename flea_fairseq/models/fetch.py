"""`flea fetch`: the official weights, downloaded once, resumed where a download stopped, and checked from then on."""

import json
import os
from pathlib import Path
from typing import Any

import requests
from filelock import FileLock
from tqdm import tqdm

from flea_fairseq.data import files
from flea_fairseq.errors import FetchError

SOURCES = {
    "hubert-base": "https://dl.fbaipublicfiles.com/hubert/hubert_base_ls960.pt",
    "hubert-km500": "https://dl.fbaipublicfiles.com/hubert/hubert_base_ls960_L9_km500.bin",
    "wav2vec2-base": "https://dl.fbaipublicfiles.com/fairseq/wav2vec/wav2vec_small.pt",
}
LOCK = "weights.lock"  # lines of: name  sha256  bytes  address
BY_HAND = "put-there-by-hand"
TIMEOUT = (20, 60)  # seconds to connect, and without a byte
BLOCK = 1 << 16  # bytes; at most so many are lost where a connection breaks


def fetch(name: str, folder: Path | None = None, url: str | None = None, sha256: str | None = None) -> Path:
    """The path of a model file, downloaded if it is not in the folder yet ($FLEA_CACHE, ~/.cache/flea_fairseq).

    The publisher gives no checksums: what arrives first is recorded in the folder's `weights.lock`, and the file is
    compared with that whenever it is asked for again; sha256, where given, is compared as well. A file that somebody
    put there is taken and recorded. Raises FetchError for a download that does not arrive, or another file.
    """
    path = location(name, folder)
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if path.exists():
                _check(name, path, path, BY_HAND, sha256)
            else:
                part = path.with_name(path.name + ".part")
                _download(name, url or SOURCES[name], part, path)
                _check(name, part, path, url or SOURCES[name], sha256)
                part.replace(path)
                _state_file(part).unlink(missing_ok=True)
    except OSError as error:
        raise FetchError(f"{name}: {path} cannot be written or read ({files.explained(error.errno or 0)})") from None
    return path


def location(name: str, folder: Path | None = None) -> Path:
    """Where a model file is kept, whether it is there or not. Raises FetchError for a name that is not known."""
    if name not in SOURCES:
        raise FetchError(f"{name}: no such weights; known are {', '.join(SOURCES)}")
    folder = Path(folder or os.environ.get("FLEA_CACHE") or Path.home() / ".cache/flea_fairseq").expanduser()
    return folder / SOURCES[name].rsplit("/", 1)[1]


def _check(name: str, file: Path, path: Path, origin: str, expected: str | None) -> None:
    """Compare a file with what is recorded and asked for, and record it the first time. `path`: where it belongs."""
    found, size = files.sha256(file), file.stat().st_size
    remedy = f"delete {file} and run flea fetch {name} again"
    lock = path.with_name(LOCK)
    if expected and found != expected.lower():
        raise FetchError(f"{file}: sha256 is {found}, --sha256 says {expected.lower()}; {remedy}")
    recorded = _read_lock(lock)
    if name not in recorded:
        recorded[name] = f"{found}  {size}  {origin}"
        files.write_text(lock, "".join(f"{key}  {value}\n" for key, value in sorted(recorded.items())))
    elif recorded[name].split()[0] != found:
        raise FetchError(
            f"{file}: sha256 is {found}, but {lock} recorded {recorded[name].split()[0]}: the file has changed; "
            f"{remedy}, or, if you trust the new one, delete the line of {name} in {lock}"
        )


def _read_lock(lock: Path) -> dict[str, str]:
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.exists() else []
    recorded = {}
    for number, line in enumerate(lines, start=1):
        if len(line.split()) != 4:
            raise FetchError(
                f"{lock}:{number}: {line[:80]!r}, expected name, sha256, bytes and address; delete the line"
            )
        key, rest = line.split(maxsplit=1)
        recorded[key] = rest
    return recorded


def _download(name: str, url: str, part: Path, path: Path) -> None:
    """Bring `part` to its full length; what is there already is kept if the server still has the same file."""
    by_hand = f"or put the file at {path} yourself"
    try:
        size = _receive(name, url, part)
    except requests.HTTPError as error:
        raise FetchError(
            f"{name}: HTTP {error.response.status_code} at {url}; give another with --url, {by_hand}"
        ) from None
    except requests.RequestException as error:
        raise FetchError(
            f"{name}: {url} cannot be reached, or the connection broke ({type(error).__name__}); "
            f"run it again to continue, {by_hand}"
        ) from None
    there = part.stat().st_size
    if size is not None and there != size:
        raise FetchError(f"{name}: {there} of {size} bytes arrived from {url}; run it again to continue, {by_hand}")


def _receive(name: str, url: str, part: Path) -> int | None:
    """Ask for what is missing, write what comes, and return the whole length as far as the server tells it."""
    state = _read_state(part, url)
    done = part.stat().st_size if state else 0
    if state and done == state["size"]:
        return done
    headers = {"Accept-Encoding": "identity"}  # the length is that of the file itself
    if state and done:
        headers |= {"Range": f"bytes={done}-", "If-Range": state["validator"]}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if done and response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # it cannot be the beginning of that file
            return _receive(name, url, part)
        response.raise_for_status()
        if response.status_code == requests.codes.ok:
            done = 0  # the whole file: it has changed, or the server does not know ranges
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            raise FetchError(
                f"{name}: {url} answered HTTP {response.status_code}, expected the file; give another --url"
            )
        length = response.headers.get("Content-Length")
        size = None if length is None else done + int(length)
        if not done:
            part.unlink(missing_ok=True)
            files.write_text(
                _state_file(part), json.dumps({"url": url, "validator": _validator(response), "size": size})
            )
        with (
            open(part, "ab") as file,
            tqdm(desc=name, total=size, initial=done, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for block in response.iter_content(BLOCK):
                file.write(block)
                bar.update(len(block))
    return size


def _validator(response: requests.Response) -> str | None:
    """What tells one version of a file from another; weak ETags do not promise the same bytes."""
    etag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified") if etag.startswith("W/") else etag


def _read_state(part: Path, url: str) -> dict[str, Any] | None:
    """What is known of a part that can be continued; None where there is none."""
    try:
        state = json.loads(_state_file(part).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    same = part.exists() and state["url"] == url and state["validator"]
    return state if same else None


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")
