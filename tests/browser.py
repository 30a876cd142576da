"""Chromium for the tests that look at pages: the one on the path, or Debian's, installed where that is possible."""

import os
import shutil
import subprocess

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str:
    """The path of Chromium or Chrome; a test that asks is left out, saying why, where there is none."""
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("no Chromium or Chrome on the path")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]
    for command in (["apt-get", "update"], install):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True)
    if done.returncode or not shutil.which("chromium"):
        pytest.skip(f"no Chromium, and it cannot be installed: {done.stderr.strip()[-200:]}")
    return shutil.which("chromium")
