"""No module writes in place: each call that makes a file is within one of the four ways of data/files.py."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WAYS = {"replacing", "replacing_files", "hidden_folder", "writing"}
METHODS = {"write_text", "write_bytes", "save_pretrained", "to_csv", "tofile", "savefig", "touch"}
FUNCTIONS = {
    "torch.save", "np.save", "np.savez", "np.savez_compressed", "np.savetxt", "soundfile.write",
    "shutil.copy", "shutil.copyfile", "shutil.copy2", "shutil.copytree", "shutil.move", "onnx.save", "save_file",
    "json.dump", "joblib.dump", "torch.onnx.export",
}  # fmt: skip
OPEN = ("open", "soundfile.SoundFile")  # by mode, their second argument
HIDDEN = {  # called with a name in a hidden folder, by export.py; and the part of a download, which is to stay
    "inference/export_hf.py", "inference/export_onnx.py", "inference/export_fairseq.py", "models/fetch.py",
}  # fmt: skip
SOURCES = sorted((ROOT / "flea_fairseq").rglob("*.py"))


def in_place(source: str) -> Iterator[str]:
    """Each call that writes a file under the name that readers know: its line and what it is."""
    tree = ast.parse(source)
    memory = {
        ast.unparse(node.targets[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.value) in ("io.BytesIO()", "io.StringIO()")
    }
    yield from _calls(tree, memory, safe=False)


def _calls(node: ast.AST, memory: set[str], safe: bool) -> Iterator[str]:
    if isinstance(node, ast.With):
        safe = safe or any(
            isinstance(item.context_expr, ast.Call) and ast.unparse(item.context_expr.func) in WAYS
            for item in node.items
        )
    if isinstance(node, ast.Call) and not safe and _writes(node):
        if not memory & {ast.unparse(argument) for argument in node.args}:
            yield f"{node.lineno}: {ast.unparse(node.func)}"
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, memory, safe)


def _writes(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name in OPEN or name.endswith(".open"):
        modes = [*call.args[name in OPEN :][:1], *(k.value for k in call.keywords if k.arg == "mode")]
        return any(set(str(getattr(mode, "value", ""))) & set("wax+") for mode in modes)
    if name == "files.write_text":
        return False
    return name in FUNCTIONS or (isinstance(call.func, ast.Attribute) and call.func.attr in METHODS)


def test_no_module_writes_in_place():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        if str(path.relative_to(ROOT / "flea_fairseq")) not in {*HIDDEN, "data/files.py"}
        for line in in_place(path.read_text(encoding="utf-8"))
    ]
    assert len(SOURCES) > 100 and found == []


@pytest.mark.parametrize(
    "call",
    [
        *(f"{name}(x)" for name in sorted(FUNCTIONS)),
        *(f"x.{name}(y)" for name in sorted(METHODS)),
        'open(x, "w")',
        'open(x, mode="ab")',
        'x.open("r+")',
        'soundfile.SoundFile(x, "w")',
    ],
)
def test_each_kind_is_found(call):
    assert list(in_place(f"x = 1\n{call}\n"))
    assert not list(in_place(f"with replacing(x) as y:\n    {call}\n"))


def test_reading_and_memory_are_no_writing():
    for line in ("y = io.BytesIO()\nsoundfile.write(y, x)", "open(x)", 'open(x, "rb")', "x.open()", "x.SoundFile(y)"):
        assert not list(in_place(line))
    assert not list(in_place("soundfile.SoundFile(x)"))
