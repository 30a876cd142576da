"""What a reader of a model or of results has to know: versions, revision, hardware, corpus and split.

No times and no paths, so that equal runs give equal files.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flea_fairseq.data.audio import SAMPLE_RATE
from flea_fairseq.data.files import read_json
from flea_fairseq.data.manifest import read_manifest

ENGINE = "fairseq-fixed" if sys.version_info >= (3, 11) else "fairseq"
PACKAGES = ("flea_fairseq", ENGINE, "torch", "torchaudio", "faiss-cpu", "numpy")


def versions() -> dict[str, str]:
    """Of Python and the packages that numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def revision() -> str:
    """The git revision of this package, with `+` where files were changed since; "" where it is not in a clone."""
    here = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(here)]
    try:
        if not (here / ".git").exists():  # installed; a folder above may be somebody else's clone
            return ""
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "flea_fairseq"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + "+" * bool(changed)


def hardware() -> str:
    """Processor, cores and GPUs, as far as Linux tells."""
    try:
        models = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        models = []
    parts = [f"{(models or [platform.machine()])[0].strip()}, {os.cpu_count()} cores"]
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        parts += subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")
    return ", ".join(part.strip() for part in parts if part.strip())


def model_facts(data: Path, seed: int) -> dict[str, Any]:
    """What a model file says of itself: how its audio must be, and what it was trained on.

    data: the fold's folder, whose fold.json, if `flea folds` made it, names protocol and split.
    """
    facts = {"sample_rate": SAMPLE_RATE, "seed": seed, "versions": versions(), "revision": revision()}
    manifests = sorted(data.glob("[!.]*.tsv"))
    corpus = {"corpus": read_manifest(manifests[0]).root.name} if manifests else {}
    split = {}
    if (data / "fold.json").is_file():
        made = read_json(data / "fold.json", ("protocol", "hash", "transductive"), "run flea folds again")
        split = {"fold": data.name, **{key: made[key] for key in ("protocol", "transductive")}, "split": made["hash"]}
    return {**facts, **corpus, **split}
