"""The graph as data, and what a run costs, against counts and sums worked by hand."""

import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(sys.version_info < (3, 11), reason="the graph needs Python 3.11"),
]

import numpy as np  # noqa: E402

from flea_fairseq.data.manifest import Manifest, write_manifest  # noqa: E402
from flea_fairseq.errors import ExperimentError  # noqa: E402
from flea_fairseq.workflow.estimate import audio_seconds, durations, merged_config, step_counts  # noqa: E402
from flea_fairseq.workflow.experiment import read_experiment  # noqa: E402
from flea_fairseq.workflow.method import Weights, method  # noqa: E402
from flea_fairseq.workflow.run import analysed, check_poolings  # noqa: E402

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WEIGHTS = Weights("/w/hubert.pt", "/w/km500.bin", "/w/wav2vec.pt")


def table1(*changes: str, weights: Weights = WEIGHTS):
    plan = read_experiment(EXAMPLES / "iemocap/table1.yaml", list(changes))
    return plan, method(plan, weights)


def test_what_cells_share_is_there_once():
    _, made = table1()
    assert len(made.models) == 2 + 9 + 18 + 2 + 3 + 3  # 1a 1b, phase 2, phase 3, wav2vec 2.0, its classifiers, heads
    assert made.clusterings.keys() == {"first", "tapt", "p_tapt"}
    tapt = made.clusterings["tapt"]
    assert (tapt.model, tapt.layers, tapt.clusters) == ("tapt", (6, 9, 11), (50, 100, 150))  # one pass
    assert made.clusterings["first"].given == "/w/km500.bin" and made.clusterings["first"].sets == ("km",)
    assert {m.start for name, m in made.models.items() if name.startswith("align_")} == {"/w/hubert.pt"}
    align = made.models["align_l11_k150"]
    assert (align.units, align.sets) == ("tapt/l11", ("km150",))
    for pooling in ("mean", "attention"):
        assert made.models[f"flea_l11_k150_{pooling}"].start == "align_l11_k150"
        assert f"model.pooling={pooling}" in made.models[f"flea_l11_k150_{pooling}"].settings
    assert made.models["tapt"].start == "tapt_pretrain" and "model.pooling=mean" in made.models["tapt"].settings


def test_rows_of_the_table():
    _, made = table1()
    keys = [row["key"] for row in made.systems]
    assert len(keys) == 1 + 1 + 18 + 3 + 3 and len(set(keys)) == len(keys)
    assert {key for key in keys if key != "baseline"} <= made.models.keys()
    cell = next(row for row in made.systems if row["key"] == "flea_l9_k50_attention")
    assert (cell["layer"], cell["clusters"], cell["pooling"]) == (9, 50, "attention")


def test_several_label_sets_are_targets_of_one_masked_prediction():
    _, made = table1("systems=[flea_targets]", "layers=[9, 11]")
    assert made.models["align_l9_kall"].sets == ("km50", "km100", "km150")
    assert made.models["align_l9_kall"].units == "tapt/l9" and "align_l9_k50" not in made.models
    assert made.models["flea_l11_kall_attention"].start == "align_l11_kall"
    assert [row["key"] for row in made.systems] == [
        "flea_l9_kall_mean", "flea_l9_kall_attention", "flea_l11_kall_mean", "flea_l11_kall_attention",
    ]  # fmt: skip
    first = made.systems[0]
    assert "K 50 + 100 + 150 at once" in first["title"]
    assert (first["layer"], first["pooling"]) == (9, "mean") and "clusters" not in first  # no place in the grid
    with pytest.raises(ExperimentError, match=r"flea_targets predicts .* but clusters is \[50\]; give two or more"):
        table1("systems=[flea_targets]", "clusters=50")


def test_a_name_among_the_poolings_may_stand_for_settings():
    local = ("settings.flea_local.model.pooling=mean", "settings.flea_local.model.context=0.5")
    _, made = table1("poolings=[mean, local]", "layers=9", "clusters=50", *local)
    settings = made.models["flea_l9_k50_local"].settings
    assert {"model.pooling=mean", "model.context=0.5"} <= set(settings)
    assert not any("context" in word for word in made.models["flea_l9_k50_mean"].settings)
    assert {row.get("pooling") for row in made.systems if row["group"] == "flea"} == {"mean", "local"}
    with pytest.raises(ExperimentError, match="settings.flea_local is unknown; expected one of .*flea_mean"):
        table1("poolings=[mean]", local[1])  # which makes no pooling; what does may lie idle
    with pytest.raises(ExperimentError, match="poolings: 'local' is unknown, .* settings.flea_local.model.pooling"):
        check_poolings(table1("poolings=[local]")[0])


def test_the_report_looks_into_all_clusters_that_phase_2_predicted():
    """The rest of it looks into a cell of one K, and the joint ones have several."""
    sets = [f"tapt_l{layer}_km{k}" for layer in (9, 11) for k in (50, 100)]
    units = {f"results/{fold}/seed1/units/{name}.json" for fold in ("Ses01", "Ses02") for name in sets}
    cells = ("layers=[9, 11]", "clusters=[50, 100]")
    examined = {"results/Ses01/seed1/projection.json", *(f"results/Ses0{n}/seed1/attention.json" for n in (1, 2))}
    for systems, expected in (
        ("flea_targets", units), ("flea", units | examined), ("flea, flea_targets", units | examined), ("tapt", set()),
    ):  # fmt: skip
        found = analysed(*table1(f"systems=[{systems}]", *cells), ["Ses01", "Ses02"])
        assert set(found) == expected and len(found) == len(expected)


def test_the_name_of_a_pooling_stands_for_no_other():
    with pytest.raises(ExperimentError, match="flea_mean.model.pooling is attention: .* bear the name mean; put"):
        check_poolings(table1("poolings=[mean]", "settings.flea_mean.model.pooling=attention")[0])
    with pytest.raises(ExperimentError, match="flea_attention.model.pooling is mean"):  # though nobody asks for it now
        check_poolings(table1("poolings=[mean]", "settings.flea_attention.model.pooling=mean")[0])
    check_poolings(table1("poolings=[mean]", "settings.flea_mean.model.pooling=mean")[0])


CONSISTENT = "settings.flea.criterion.consistency=0.5"


def test_frames_are_held_to_the_clusters_of_their_cell_where_the_settings_ask_for_it():
    off = "settings.flea_mean.criterion.consistency=0"  # a pooling's own settings win
    plan, made = table1("systems=[flea]", CONSISTENT, off)
    assert (made.models["flea_l9_k100_attention"].units, made.models["flea_l9_k100_attention"].sets) == (
        "tapt/l9", ("km100",))  # fmt: skip
    assert made.models["flea_l9_k100_mean"].sets == () and not any("note" in row for row in made.systems)
    values = merged_config(made, "flea_l9_k100_attention", Path(plan.config_dir))
    assert values["criterion.consistency"] == 0.5


def test_of_several_k_consistency_takes_the_first_and_the_report_says_so():
    _, made = table1("systems=[flea_targets]", "layers=9", "clusters=[100, 50]", CONSISTENT)
    assert made.models["align_l9_kall"].sets == ("km100", "km50")
    assert made.models["flea_l9_kall_mean"].sets == ("km100",)
    assert all("the clusters of K 100, the first" in row["note"] for row in made.systems)


def test_consistency_that_frames_cannot_have_is_refused_before_anything_runs(tmp_path):
    pooled = ("systems=[flea]", "poolings=[correlation]", CONSISTENT)
    plan, made = table1(*pooled)
    with pytest.raises(ExperimentError, match="flea_.*: criterion.consistency: .*pooling is correlation, .* or mean"):
        merged_config(made, "flea_l9_k50_correlation", Path(plan.config_dir))
    plan, made = table1(*pooled, "settings.flea_correlation.criterion.consistency=0")
    merged_config(made, "flea_l9_k50_correlation", Path(plan.config_dir))
    text = (EXAMPLES / "config/finetune.yaml").read_text()
    (tmp_path / "finetune.yaml").write_text(text.replace("consistency: 0.0", "consistency: 0.5"))
    with pytest.raises(ExperimentError, match="tapt: criterion.consistency is 0.5, but there are no clusters"):
        merged_config(made, "tapt", tmp_path)  # what it is trained from is for all classifiers


def test_p_tapt_says_where_its_labels_come_from():
    _, made = table1()
    row = next(row for row in made.systems if row["key"] == "p_tapt")
    assert row["title"] == "P-TAPT (HuBERT labels)" and "tested speakers" in row["note"]
    pretrain = made.models["p_tapt_pretrain"]
    assert (pretrain.units, pretrain.sets, pretrain.start) == (
        "p_tapt/l9", ("km8", "km64", "km512", "km4096"), "/w/wav2vec.pt")  # fmt: skip
    assert made.clusterings["p_tapt"].model == "tapt"
    _, made = table1(weights=Weights("/w/hubert.pt", "/w/km500.bin", "/w/wav2vec.pt", "/w/v1.pt"))
    row = next(row for row in made.systems if row["key"] == "p_tapt")
    assert row["title"] == "P-TAPT" and made.models["p_tapt_pretrain"].units == "p_tapt/l1"
    assert made.clusterings["p_tapt"].model == "/w/v1.pt"


def test_a_papers_own_settings_are_changed_only_by_name():
    """EmoDB's settings for fine-tuning say lr, epochs and crops; SUPERB's paper does as well."""
    changes = ["systems=[superb]", "settings.superb.optimization.max_update=9", "settings.finetune.model.dropout=0.3"]
    plan = read_experiment(EXAMPLES / "emodb/experiment.yaml", changes)
    made = method(plan, Weights())
    values = merged_config(made, "superb", Path(plan.config_dir))
    assert (values["optimization.lr"], values["task.max_seconds"], values["optimization.max_epoch"]) == ([1e-4], 0.0, 0)
    assert values["optimization.max_update"] == 9 and values["model.dropout"] == 0.3
    assert made.models.keys() == {"tapt_pretrain", "superb"}  # nothing that the row does not stand on


def test_the_note_says_who_was_heard():
    _, made = table1("protocol=oracle", "systems=[p_tapt]")
    assert "read the tested speakers too" in made.systems[0]["note"] and "training part" not in made.systems[0]["note"]
    _, made = table1("systems=[p_tapt]", weights=Weights("/w/h.pt", "/w/km.bin", "/w/w.pt", "/w/v1.pt"))
    assert "not known" in made.systems[0]["note"]
    assert made.models.keys() == {"p_tapt_pretrain", "p_tapt"} and made.clusterings.keys() == {"p_tapt"}


def test_from_scratch_the_first_model_takes_the_encoders_place():
    plan = read_experiment(EXAMPLES / "demo/experiment.yaml")
    made = method(plan, Weights())
    assert made.models["tapt_pretrain"].units == "first/mfcc" and made.models["tapt_pretrain"].start == ""
    assert made.models["align_l2_k50"].start == "tapt_pretrain" and made.models["tapt_pretrain"].sets == ("km50",)


def test_an_encoder_without_its_units_is_refused():
    with pytest.raises(ExperimentError, match="first_units.kmeans"):
        table1(weights=Weights("/w/hubert.pt", "", "/w/wav2vec.pt"))


def test_audio_that_a_training_passes(tmp_path):
    """Utterances of 2, 4 and 9 s."""
    frames = tuple((np.array([2, 4, 9]) * 16000).tolist())
    write_manifest(tmp_path / "ssl.tsv", Manifest(tmp_path, ("a.wav", "b.wav", "c.wav"), frames))
    seconds = durations({"dataset.train_subset": "ssl"}, tmp_path)
    assert seconds == [2, 4, 9]
    plan, made = table1()
    config = {name: merged_config(made, name, Path(plan.config_dir)) for name in ("align_l9_k50", "tapt", "superb")}
    assert audio_seconds(config["align_l9_k50"], seconds) == 20000 * 4 * 87.5
    assert audio_seconds(config["tapt"], seconds) == 40 * (2 + 4 + 6)
    assert audio_seconds({**config["tapt"], "optimization.max_epoch": 0, "optimization.max_update": 5}, seconds) == (
        5 * 64 * (2 + 4 + 6) / 3
    )
    assert config["tapt"]["common.fp16"] is True


def test_steps_are_counted_without_snakemakes_own():
    text = (
        "rule train:\nJob stats:\njob      count\n-----  -------\nall          1\ntrain       12\ncorpus 1\ntotal 14\n"
    )
    assert step_counts(text) == {"corpus": 1, "train": 12}
