"""No code of ours asks a library to load what can execute, or a shell to run a text; ruff's S rules hold the rest."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = {  # whatever they are given, called or handed on; `numpy.load` reads no pickles unless it is told to
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "joblib.load", "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load",
    "yaml.unsafe_load_all", "marshal.load", "marshal.loads", "shelve.open", "dill.load", "dill.loads",
    "cloudpickle.load", "cloudpickle.loads", "pandas.read_pickle", "torch.hub.load", "importlib.import_module",
    "runpy.run_path", "runpy.run_module", "code.interact", "pty.spawn", "subprocess.getoutput",
    "subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "hydra.utils.instantiate", "hydra.utils.call",
    *(f"os.{kind}{how}" for kind in ("spawn", "exec") for how in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    "os.posix_spawn", "os.posix_spawnp",
}  # fmt: skip
SAFE_ONLY = {"torch.load": ("weights_only", True)}  # calls that must say so
ARGUMENTS = {("allow_pickle", True), ("weights_only", False), ("shell", True), ("trust_remote_code", True)}
SUBPROCESS = {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")}


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each name that an import makes, and what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def unsafe(source: str) -> Iterator[str]:
    """Each name and call by which data could run, under whatever name it was imported: its line and what it is."""
    tree = ast.parse(source)
    known = dict(imported(tree))

    def whole(node: ast.AST) -> str:
        if isinstance(node, ast.Attribute):
            return f"{whole(node.value)}.{node.attr}"
        return known.get(node.id, node.id) if isinstance(node, ast.Name) else "?"

    for name, meant in known.items():
        if meant in NAMES or (name == "*" and any(each.startswith(meant[:-1]) for each in NAMES)):
            yield f"1: imports {meant}"
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and whole(node) in NAMES:
            yield f"{node.lineno}: {whole(node)}"
        if not isinstance(node, ast.Call):
            continue
        name = whole(node.func)
        given = {keyword.arg: getattr(keyword.value, "value", keyword.value) for keyword in node.keywords}
        if name in SAFE_ONLY and given.get(SAFE_ONLY[name][0]) is not SAFE_ONLY[name][1]:
            yield f"{node.lineno}: {name} without {SAFE_ONLY[name][0]}={SAFE_ONLY[name][1]}"
        if name in SUBPROCESS and node.args and is_text(node.args[0]):
            yield f"{node.lineno}: {name} of a text in place of a list"
        for argument in ARGUMENTS & {(key, value) for key, value in given.items() if isinstance(value, bool)}:
            yield f"{node.lineno}: {name}({argument[0]}={argument[1]})"


def is_text(node: ast.AST) -> bool:
    """Whether an expression is a text, or a text that is cut into words."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("split", "join", "format")
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


OWN_PROGRAMS = {("examples/benchmarks/label_corpus.py", "runpy.run_path")}  # fairseq's script, to compare with
SOURCES = sorted(path for part in ("flea_fairseq", "manifests", "examples") for path in (ROOT / part).rglob("*.py"))


def test_there_is_nothing_of_the_kind():
    assert len(SOURCES) > 100
    found = [(str(path.relative_to(ROOT)), line) for path in SOURCES for line in unsafe(path.read_text("utf-8"))]
    assert [f"{path}:{line}" for path, line in found if (path, line.split(": ")[1]) not in OWN_PROGRAMS] == []


@pytest.mark.parametrize(
    "call",
    [
        *(f"{name}(x)" for name in sorted(NAMES)),
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "torch.load(x, weights_only=safe)",
        "import torch as t; t.load(x)",
        "from torch import load; load(x)",
        "numpy.load(x, allow_pickle=True)",
        "subprocess.run(x, shell=True)",
        "subprocess.run('rm -r x')",
        "import subprocess as s; s.Popen(f'rm {x}')",
        "from subprocess import check_output as run; run('rm x'.split())",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "from pickle import load; load(x)",
        "from pickle import load as read",
        "import pickle as p; p.load(x)",
        "from pickle import *",
        "import importlib as i; i.import_module(x)",
        "from os import system as run; run(x)",
        "read = pickle.load",
        "map(eval, x)",
    ],
)
def test_each_kind_is_found(call):
    assert list(unsafe(f"x = 1\n{call}\n"))


@pytest.mark.parametrize(
    "call",
    ["torch.load(x, weights_only=True)", "numpy.load(x)", "numpy.load(x, allow_pickle=False)", "yaml.safe_load(x)",
     "model.eval()", "re.compile(x)", "subprocess.run(['rm', x])", "subprocess.run([*command, x], check=True)",
     "import pickle; pickle.UnpicklingError"],
)  # fmt: skip
def test_safe_ones_are_not(call):
    assert list(unsafe(call)) == []


SNAKEFILES = sorted((ROOT / "flea_fairseq/workflow").glob("*.smk")) + [ROOT / "flea_fairseq/workflow/Snakefile"]
SHELL = {  # what a rule may run; words are quoted one by one
    "RUN": '"{params.argv:q} > {log:q} 2>&1"',
    "ON_GPU": '"FLEA_GPUS_WANTED={resources.device:q} " + RUN',
    "TRAIN": '"FLEA_GPUS_WANTED={resources.device:q} {params.argv:q} --processes {resources.processes:q} > {log:q} '
    '2>&1"',
}


def rules_unsafe(text: str) -> list[str]:
    """What in a Snakefile could run a text that is not one of the known commands."""
    found = [value for value in re.findall(r"\bshell:[ \t]*(.*)", text) if value not in SHELL]
    found += re.findall(r"^\s*(?:run|script|notebook|wrapper|cwl|onstart|onsuccess|onerror):.*", text, re.M)
    found += re.findall(r"\bshell\s*\(.*", text)
    for name, value in re.findall(r"^(\w+)\s*=\s*(.*)$", text, re.M):
        found += [f"{name} = {value}"] if name in SHELL and value.partition("  #")[0] != SHELL[name] else []
    values = [
        value for values in re.findall(r"\bresources:[ \t]*(.*)", text) for value in values.split("  #")[0].split(",")
    ]
    return found + [value for value in values if not re.fullmatch(r" ?(device|processes)=\d+", value)]


def test_rules_run_known_commands_whose_words_are_quoted():
    texts = [path.read_text(encoding="utf-8") for path in SNAKEFILES]
    assert sum(text.count("shell:") for text in texts) > 12 and sum(text.count("resources:") for text in texts) > 6
    assert [found for text in texts for found in rules_unsafe(text)] == []
    for command in SHELL.values():
        assert all(field.endswith(":q") for field in re.findall(r"{(.*?)}", command))
    for text in texts:
        assert list(unsafe("\n".join(re.findall(r"^\s*(?:import|from) .*", text, re.M)))) == []


@pytest.mark.parametrize(
    "text",
    ['shell: "flea {params.argv}"', "shell: OTHER", "run:\n        pass", "script: 'x.py'", "shell('x')",
     'RUN = "{params.argv} > {log}"', "resources: device=C['device']"],
)  # fmt: skip
def test_a_rule_that_does_not_is_found(text):
    assert rules_unsafe(f"rule x:\n    {text}\n" if ":" in text else text)
