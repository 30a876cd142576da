"""experiment.yaml: what is read, what is refused, and that no value becomes anything but a value."""

import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the graph needs Python 3.11"),
]

import yaml  # noqa: E402

from flea_fairseq.errors import ExperimentError  # noqa: E402
from flea_fairseq.workflow.experiment import read_experiment  # noqa: E402
from flea_fairseq.workflow.settings import override, overrides  # noqa: E402
from flea_fairseq.workflow.training_config import read_change  # noqa: E402

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("name", ["demo", "emodb", "iemocap"])
def test_the_examples_are_read(name):
    experiment = read_experiment(EXAMPLES / name / "experiment.yaml")
    assert experiment.name == name and Path(experiment.manifest).is_file() and Path(experiment.config_dir).is_dir()


def test_the_iemocap_example_has_the_papers_settings():
    experiment = read_experiment(EXAMPLES / "iemocap/experiment.yaml")
    assert (experiment.encoder, experiment.layers, experiment.clusters) == ("hubert-base", [9], [50])
    pretrain = yaml.safe_load((EXAMPLES / "config/pretrain.yaml").read_text())
    finetune = yaml.safe_load((EXAMPLES / "config/finetune.yaml").read_text())
    assert pretrain["criterion"]["alpha"] == 1 and pretrain["optimization"]["max_update"] == 20000
    assert pretrain["lr_scheduler"]["warmup_updates"] == 4000 and pretrain["optimization"]["lr"] == [0.0005]
    assert finetune["optimization"] | {"max_epoch": 40, "lr": [0.0001]} == finetune["optimization"]
    assert finetune["dataset"]["batch_size"] == 64 and finetune["task"]["max_seconds"] == 6


def test_changes_from_the_command_line_win():
    experiment = read_experiment(
        EXAMPLES / "demo/experiment.yaml", ["clusters=7", "folds=[Ses03]", "settings.finetune.optimization.max_epoch=2"]
    )
    assert experiment.clusters == [7] and experiment.folds == ["Ses03"]  # one value stands for a list of one
    assert experiment.examined.clusters == 7 and experiment.examined.layer == 2
    assert "optimization.max_epoch=2" in overrides(experiment.settings, ("finetune", "flea"))


def test_keys_that_are_named_in_the_documentation_can_be_changed(tmp_path, monkeypatch):
    changes = ["clusters=100", "p_tapt.clusters=64", "encoder=", "manifest=m.py"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.py").write_text("")
    experiment = read_experiment(EXAMPLES / "iemocap/table1.yaml", changes)
    assert (experiment.clusters, experiment.p_tapt.clusters, experiment.encoder) == ([100], [64], "")
    assert (experiment.examined.layer, experiment.examined.clusters) == (9, 100)
    assert experiment.manifest == str(tmp_path / "m.py")


def test_a_models_own_settings_win_over_those_of_its_kind():
    settings = read_experiment(EXAMPLES / "demo/experiment.yaml").settings
    assert "optimization.max_update=300" in overrides(settings, ("pretrain", "tapt_pretrain"))
    assert "optimization.max_update=150" in overrides(settings, ("pretrain", "align"))


def test_a_file_stands_on_its_base(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("pretrain.yaml", "finetune.yaml"):
        (tmp_path / name).write_text((EXAMPLES / "config" / name).read_text())
    (tmp_path / "m.py").write_text("")
    (tmp_path / "base.yaml").write_text(
        "name: base\nmanifest: m.py\nconfig_dir: .\nlayers: [6, 9]\nclusters: [50]\nencoder: weights.pt\n"
        "settings: {align: {optimization.max_update: 9, model.dropout: 0.2}}\n"
    )
    (tmp_path / "deep/experiment.yaml").write_text(
        "base: ../base.yaml\nname: cell\nlayers: [9]\nfirst_units: {kmeans: hubert-km500}\n"
        "settings: {align: {optimization.max_update: 2}}\n"
    )
    experiment = read_experiment(tmp_path / "deep/experiment.yaml")
    assert (experiment.name, experiment.layers, experiment.clusters) == ("cell", [9], [50])
    assert experiment.manifest == str(tmp_path / "m.py") and experiment.encoder == str(tmp_path / "weights.pt")
    assert experiment.first_units.kmeans == "hubert-km500"  # a name that flea fetch knows, no path
    assert experiment.settings == {"align": {"optimization.max_update": 2, "model.dropout": 0.2}}
    (tmp_path / "base.yaml").write_text("base: deep/experiment.yaml\n")
    with pytest.raises(ExperimentError, match="does not lead back here"):
        read_experiment(tmp_path / "deep/experiment.yaml")


FULL = "name: x\nmanifest: m.py\nconfig_dir: .\nlayers: 1\nclusters: 2\n"


@pytest.mark.parametrize(
    "text,words",
    [
        ("[1, 2]", "expected keys and values"),
        ("a: [", "not YAML"),
        ("name: x\nlayer: 3", "layer"),
        ("name: x\nlayers: three", "layers"),
        ("name: ${oc.env:HOME}", "interpolations"),
        ("name: !!python/object/apply:os.system ['true']", "not YAML"),
        (FULL + "seeds: [-1]", "seeds is .-1., expected 0 or more"),
        (FULL + "projected_frames: 9", "projected_frames is 9, expected 10 or more"),
        (FULL.replace("layers: 1", "layers: 0"), "layers is .0., expected 1 or more"),
        (FULL.replace("layers: 1", "layers: [9, 9]"), "layers is .9, 9., expected one or more, each once"),
        (FULL + "protocol: innner", "innner"),
        (FULL + "systems: [tapt, hubert]", "systems: 'hubert' is unknown"),
        (FULL + "systems: [p_tapt]", "system p_tapt starts from wav2vec 2.0"),
        (FULL + "systems: [tapt, tapt]", "systems is .*, expected one or more, each once"),
        (FULL + "poolings: []", "poolings is .., expected one or more"),
        (FULL + "folds: [Ses01, Ses01]", "folds is .*, expected one or more, each once"),
        (FULL + "p_tapt: {clusters: [64, 64]}", "p_tapt.clusters is"),
        (FULL + "first_units: {layer: 0}", "first_units.layer is 0"),
        (FULL + "base: 3", "base is 3"),
        (FULL + "settings: {finetune: {optimization.max_epochs: 3}}", "optimization.max_epochs: .* has no such key"),
        (FULL + "settings: {pretrain: {model: {encoder_layers: 2}}}", "give one value for each key"),
        (FULL + "settings: {align: {optimizer.adam_betas: \"__import__('os').getcwd()\"}}", "expected two numbers"),
        (FULL + "settings: {align: {model.conv_feature_layers: \"__import__('os').getcwd()\"}}", "only numbers"),
        (FULL + "settings: {train: {}}", "settings.train is unknown"),
        (FULL + "settings: {align: {'a b': 1}}", "is no key of a config"),
        (FULL.replace("m.py", "absent.py"), "does not exist"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_file_and_the_value(tmp_path, text, words):
    for name in ("pretrain.yaml", "finetune.yaml"):
        (tmp_path / name).write_text((EXAMPLES / "config" / name).read_text())
    (tmp_path / "m.py").write_text("")
    (tmp_path / "experiment.yaml").write_text(text)
    with pytest.raises(ExperimentError, match=words) as raised:
        read_experiment(tmp_path / "experiment.yaml")
    assert "experiment.yaml" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "value",
    ["", "a b", "it's", 'say "x"', "[(64,10,5)] + [(64,3,2)] * 4", "a,b", "$(touch x); `y`", "-x", "C:\\dir", "null",
     "1", True, None, 0.002, 1e-06, [1, 0.5], ["km50", "km100"], "choice(1,2)"],
)  # fmt: skip
def test_the_value_that_was_given_is_read_back(value):
    key, _, text = override("a.b", value).partition("=")
    got = yaml.safe_load(text)
    assert (key, got) == ("a.b", value) and type(got) is type(value)


@pytest.mark.parametrize(
    ("change", "value"),
    [("optimizer.adam_eps=1e-08", 1e-08), ("optimization.lr=[1e30, 2]", [1e30, 2]), ("task.labels=[km50]", ["km50"]),
     ("optimizer.adam_betas=(0.9,0.98)", "(0.9,0.98)"), ("task.crop='random'", "random"), ("model.layers=", None),
     ("common.fp16=true", True), ("model.conv_feature_layers='[(8, 10, 5)] * 2'", "[(8, 10, 5)] * 2")],
)  # fmt: skip
def test_a_setting_is_read_as_hydra_read_it(change, value):
    assert read_change(change) == (change.partition("=")[0], value)


def test_an_interpolation_is_no_value():
    with pytest.raises(ExperimentError, match="interpolations"):
        read_change("task.crop=${oc.env:HOME}")


def test_a_change_that_is_not_yaml_is_said_in_one_line():
    with pytest.raises(ExperimentError, match="--set 'folds=\\[Ses01': the value is not YAML"):
        read_experiment(EXAMPLES / "demo/experiment.yaml", ["folds=[Ses01"])


def test_some_of_the_poolings_that_settings_make_can_be_chosen():
    """The rest lies idle, checked all the same; a group that makes none is a slip."""
    path, one = EXAMPLES / "emodb/experiment.yaml", "settings.flea_sharper.model"
    made, other = f"{one}.pooling=sharp_attention", "settings.flea_other.model.pooling=mean"
    assert read_experiment(path, [made, other, "poolings=[sharper]"]).poolings == ["sharper"]
    with pytest.raises(ExperimentError, match="settings.flea_sharper.model.contxt: .* has no such key"):
        read_experiment(path, [made, "poolings=[mean]", f"{one}.contxt=1"])
    with pytest.raises(ExperimentError, match="settings.flea_shraper is unknown"):
        read_experiment(path, ["settings.flea_shraper.model.context=1.0"])


def test_a_pooling_is_what_its_file_says_unless_the_experiment_says_otherwise():
    path, name = EXAMPLES / "emodb/experiment.yaml", "local_sharp"
    own = yaml.safe_load((EXAMPLES / f"config/pooling/{name}.yaml").read_text())["model"]
    assert own == {"pooling": "sharp_attention", "context": 1.0}
    plan = read_experiment(path, [f"poolings=[mean,{name}]"])
    assert plan.settings[f"flea_{name}"] == {"model.pooling": "sharp_attention", "model.context": 1.0}
    assert "flea_mean" not in plan.settings
    changed = read_experiment(path, [f"poolings=[{name}]", f"settings.flea_{name}.model.context=2.0"])
    assert changed.settings[f"flea_{name}"] == {"model.pooling": "sharp_attention", "model.context": 2.0}
    idle = read_experiment(path, ["poolings=[mean]", f"settings.flea_{name}.model.context=2.0"])
    assert idle.settings[f"flea_{name}"] == changed.settings[f"flea_{name}"]


PHASE_3 = ("flea", "flea_mean", "flea_attention")
OTHERS = ("finetune", "tapt", "chen_rudnicky", "v_ft", "w2v_tapt", "p_tapt", "shift", "superb", "attentive_statistics")


@pytest.mark.parametrize("family", [*PHASE_3, *OTHERS])
def test_a_context_that_is_no_time_is_refused_in_every_group_of_classifiers(family):
    key = f"settings.{family}.model.context"
    for seconds in ("0", "0.08", "1", "3600"):
        read_experiment(EXAMPLES / "iemocap/table1.yaml", [f"{key}={seconds}"])
    for seconds in ("-1", "0.07", "3601", ".nan", ".inf", "true", "null", "[1]"):
        with pytest.raises(ExperimentError, match=rf"{key} is .*, expected 0 \(all\) or 0.08 to 3600 seconds"):
            read_experiment(EXAMPLES / "iemocap/table1.yaml", [f"{key}={seconds}"])


@pytest.mark.parametrize("family", PHASE_3)
def test_consistency_is_a_number_of_zero_or_more(family):
    key = f"settings.{family}.criterion.consistency"
    for weight in ("0", "0.5", "7"):
        read_experiment(EXAMPLES / "iemocap/table1.yaml", [f"{key}={weight}"])
    for weight in ("-0.1", ".nan", ".inf", "true", "null", "[0.5]", "1" + 400 * "0"):
        with pytest.raises(ExperimentError, match=rf"{key} is .*, expected a number of 0 or more"):
            read_experiment(EXAMPLES / "iemocap/table1.yaml", [f"{key}={weight}"])


@pytest.mark.parametrize("family", OTHERS)
def test_consistency_is_refused_where_there_are_no_clusters_of_frames(family):
    """`finetune` is for phase 3 too, but for 1b as well, whose frames have no clusters yet."""
    with pytest.raises(ExperimentError, match=f"settings.{family}.criterion.consistency: only phase 3 has clusters"):
        read_experiment(EXAMPLES / "iemocap/table1.yaml", [f"settings.{family}.criterion.consistency=0.5"])
