"""No code of ours asks a library to load what can execute; ruff's S rules hold the rest."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CALLS = {  # whatever they are given
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "joblib.load", "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "marshal.load", "marshal.loads",
    "shelve.open", "dill.load", "dill.loads", "torch.hub.load",
}  # fmt: skip
ARGUMENTS = {("allow_pickle", True), ("weights_only", False), ("shell", True), ("trust_remote_code", True)}


def unsafe(source: str) -> Iterator[str]:
    """Each call by which data could run: its line and what it is."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS:
                yield f"{node.lineno}: {name}"
            if name == "torch.load" and "weights_only" not in {keyword.arg for keyword in node.keywords}:
                yield f"{node.lineno}: torch.load without weights_only"
            for keyword in node.keywords:
                if (keyword.arg, getattr(keyword.value, "value", None)) in ARGUMENTS:
                    yield f"{node.lineno}: {name}({keyword.arg}={ast.unparse(keyword.value)})"


SOURCES = sorted(path for part in ("flea_fairseq", "manifests", "examples") for path in (ROOT / part).rglob("*.py"))


def test_there_is_nothing_of_the_kind():
    assert len(SOURCES) > 100
    found = [
        f"{path.relative_to(ROOT)}:{line}" for path in SOURCES for line in unsafe(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "call",
    [
        *(f"{name}(x)" for name in sorted(CALLS)),
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "numpy.load(x, allow_pickle=True)",
        "subprocess.run(x, shell=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
    ],
)
def test_each_kind_is_found(call):
    assert list(unsafe(f"x = 1\n{call}\n"))


def test_safe_ones_are_not():
    assert not list(unsafe("torch.load(x, weights_only=True); numpy.load(x, allow_pickle=False); yaml.safe_load(x)"))
