"""The set-up: which Python it takes, and what it says before anything is downloaded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def venv(
    tmp_path: Path, *arguments: str, path: str | None = None, home: str = "/nowhere"
) -> subprocess.CompletedProcess:
    """venv.sh in a copy of what it reads, with a PATH of its own."""
    for name in ("venv.sh", "setup.py", "constraints"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    environment = {"PATH": path or os.environ["PATH"], "HOME": home}
    return subprocess.run(
        ["sh", "./venv.sh", ".venv", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )


def stub(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_shim_that_only_prints_an_error_is_passed_over(tmp_path):
    """python3.12 does not run, python3.11 does; with no compiler that is said in one line, and nothing is made."""
    tools = tmp_path / "bin"
    stub(tools, "python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    stub(tools, "python3.11", 'case "$2" in *version_info*) echo 3.11;; *) echo /usr/include;; esac')
    for name in ("cat", "cksum", "tr", "df", "awk", "uname", "sh"):
        (tools / name).symlink_to(shutil.which(name))
    result = venv(tmp_path, path=str(tools))
    assert result.returncode == 1 and not (tmp_path / ".venv").exists()
    assert result.stderr.startswith("error: Python 3.11 on ") and "needs g++" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_python_at_all_is_said_in_one_line(tmp_path):
    tools = tmp_path / "bin"
    stub(tools, "python3", "echo 3.8")
    (tools / "sh").symlink_to(shutil.which("sh"))
    result = venv(tmp_path, path=str(tools))
    assert result.returncode == 1 and result.stderr.startswith("error: no Python 3.12 or 3.11 runs here")


def test_an_unsupported_python_is_named(tmp_path):
    stub(tmp_path / "bin", "old", "echo 3.8")
    result = venv(tmp_path, str(tmp_path / "bin/old"))
    assert result.returncode == 1 and "Python 3.8 is not supported" in result.stderr


def test_too_little_disk_is_said_before_downloading(tmp_path):
    stub(
        tmp_path / "bin",
        "df",
        "printf 'Filesystem 1024-blocks Used Available Capacity Mounted\\nx 9 9 2097152 9%% /\\n'",
    )
    result = venv(tmp_path, sys.executable, path=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert result.returncode == 1 and "2 GiB free here, 8 GiB are needed" in result.stderr


def test_the_pins_are_of_every_direct_dependency():
    text = (ROOT / "setup.py").read_text()
    for version in ("310", "311", "312"):
        pins = (ROOT / f"constraints/py{version}.txt").read_text().lower()
        for package in (
            "torch==2.11.0",
            "torchaudio==2.11.0",
            "faiss-cpu==1.15.1",
            "click==",
            "filelock==",
            "requests==",
        ):
            assert package in pins
            assert package.split("==")[0] in text
