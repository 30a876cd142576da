"""What fairseq runs as Python, found in the source that is installed: every such setting is known and refused."""

import ast
import importlib.util
from pathlib import Path

import pytest

from flea_fairseq.errors import ExperimentError
from flea_fairseq.workflow.training_config import EVALUATED, merged

NO_SETTING = {
    "x",  # the three functions below, themselves
    "uf",  # the old command line's
    "line.strip()",  # a line of a manifest of speech units; SECURITY.md
}


def evaluated(node: ast.AST) -> str | None:
    """The setting that a call evaluates, or the text of its argument; None for another call."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    name = ast.unparse(node.func)
    if name != "eval" and name.rpartition(".")[2] not in ("eval_str_list", "eval_str_dict", "eval_bool"):
        return None
    match node.args[0]:
        case ast.Attribute(attr=setting):
            return setting
        case ast.Call(func=ast.Name("getattr"), args=[_, ast.Constant(setting), *_]):
            return setting
        case ast.Subscript(slice=ast.Constant(setting)):
            return setting
        case argument:
            return ast.unparse(argument)


def sources(package: str) -> list[Path]:
    (folder,) = importlib.util.find_spec(package).submodule_search_locations
    return [path for path in Path(folder).rglob("*.py") if "examples" not in path.relative_to(folder).parts]


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_every_setting_that_fairseq_evaluates_is_known():
    files = [*sources("fairseq"), *sources("fairseq_cli")]
    assert len(files) > 300
    found = {evaluated(node) for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))}
    assert found - {None} - NO_SETTING <= EVALUATED
    assert {"adam_betas", "pipeline_devices", "character_filters", "conv_feature_layers"} <= found


@pytest.mark.parametrize("change", ["task.post_save_script=id", "task.x.feature_encoder_spec=f()"])
def test_a_program_and_an_expression_are_refused(tmp_path, change):
    (tmp_path / "pretrain.yaml").write_text("task: {post_save_script: null, x: {feature_encoder_spec: null}}\n")
    assert merged(tmp_path, "pretrain", None, ["task.x.feature_encoder_spec=[1]"])
    refused = "fairseq (runs this text as Python|would start this as a program)|is no key of a config"
    with pytest.raises(ExperimentError, match=refused):
        merged(tmp_path, "pretrain", None, [change])
