"""The set-up: which Python it takes, and what it says before anything is downloaded."""

import ast
import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


SETUP = (ROOT / "setup.py").read_text()


def dependencies() -> list[tuple[Requirement, str]]:
    """Each direct dependency of setup.py, extras too, with the rest of its line."""
    tree, lines = ast.parse(SETUP), SETUP.splitlines()
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    values = [word.value for word in call.keywords if word.arg in ("install_requires", "extras_require")]
    texts = [
        node for value in values for listed in ast.walk(value) if isinstance(listed, ast.List) for node in listed.elts
    ]
    return [(Requirement(node.value), lines[node.lineno - 1][node.end_col_offset :]) for node in texts]


def pinned(pins: Path) -> dict[str, tuple[str, list[str]]]:
    """name -> (version, hashes) of a file of pins; every line is looked at."""
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in pins.read_text().replace("\\\n", "").splitlines():
        requirement, *hashes = entry.split("--hash=")
        wanted = Requirement(requirement)
        (specifier,) = wanted.specifier
        assert specifier.operator == "==", entry
        key = canonicalize_name(wanted.name) + (f"; {wanted.marker}" if wanted.marker else "")
        assert key not in found
        found[key] = (specifier.version, [value.strip() for value in hashes])
    return found


def test_the_reason_for_each_direct_dependency_stands_beside_it():
    found = dependencies()
    assert len(found) > 40
    assert [str(wanted) for wanted, rest in found if not re.search(r"# \w.{5,}", rest)] == []


@pytest.mark.parametrize("pins", sorted((ROOT / "constraints").glob("*.txt")), ids=lambda path: path.stem)
def test_every_pin_has_hashes(pins):
    if pins.stem == "audit-ignore":
        return
    entries = pinned(pins)
    assert len(entries) > 40
    for name, (_, hashes) in entries.items():
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in hashes), name


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12"])
def test_each_direct_dependency_is_pinned_where_its_marker_holds(version):
    """And to a version that setup.py takes."""
    python = {"python_version": version, "python_full_version": f"{version}.0"}
    pins = pinned(ROOT / f"constraints/py{version.replace('.', '')}.txt")
    wanted = [needed for needed, _ in dependencies() if needed.marker is None or needed.marker.evaluate(python)]
    assert len(wanted) > 30
    for needed in wanted:
        assert needed.specifier.contains(pins[canonicalize_name(needed.name)][0]), needed


AUDIT = """#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in --output) output=$2;; --requirement) pins=$2;; --ignore-vuln) echo "$2" >>ignored;; esac; shift
done
case $pins in *%s*) echo "%s" >"$output"; echo "the last line" >&2; exit 1;; esac
"""


@pytest.mark.parametrize(
    ("at", "table", "status", "said"),
    [
        ("nowhere", "", 0, ["constraints/py312.txt: none known"]),
        (
            "py311",
            "jinja2 3.0 CVE-2099-1",
            1,
            ["py311.txt:\njinja2 3.0 CVE-2099-1", "py312.txt: none known", "upgrade"],
        ),
        ("py311", "", 2, ["the last line", "constraints/py311.txt: no result"]),
    ],
)
def test_an_audit_that_got_no_answer_is_no_pass(tmp_path, at, table, status, said):
    """Some found, and no answer, are told apart; what was reviewed is passed on."""
    shutil.copytree(ROOT / "constraints", tmp_path / "constraints")
    with (tmp_path / "constraints/audit-ignore.txt").open("a") as file:
        file.write("PYSEC-2099-7 gradio 2026-11-26 only the demo page of others is reached\n")
    stub(tmp_path / "bin", "pip-audit", (AUDIT % (at, table)).replace('echo "" >', ": >"))
    result = subprocess.run(["sh", ROOT / "audit.sh", "."], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == status, result.stderr
    assert all(words in result.stdout + result.stderr for words in said)
    assert set((tmp_path / "ignored").read_text().split()) == {"PYSEC-2099-7"}


def test_each_ignored_vulnerability_was_reviewed():
    pins = set().union(*(pinned(path) for path in sorted((ROOT / "constraints").glob("py*.txt"))))
    lines = (ROOT / "constraints/audit-ignore.txt").read_text().splitlines()
    for line in [line for line in lines if not line.startswith("#")]:
        name, package, day, why = line.split(" ", 3)
        assert re.fullmatch(r"(PYSEC|CVE|GHSA)-\S+", name) and package in pins and len(why) > 20
        date.fromisoformat(day)
