"""The method as a graph: which models are trained, from what, on which labels, and which systems are scored.

Pure data, made from an experiment; the Snakefile turns it into steps. Every model, label set and feature pass is named
once, so what several systems share is made once.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from flea_fairseq.data.protocols import SHARED_VALID
from flea_fairseq.errors import ExperimentError
from flea_fairseq.evaluation.grid import pooling_title
from flea_fairseq.ranges import CONSISTENCY
from flea_fairseq.workflow.experiment import Experiment
from flea_fairseq.workflow.settings import OF_POOLING, override, overrides

LEAK_NOTES = {  # by whether the experiment lets unsupervised steps hear the tested speakers
    False: "The paper's clustering reads the tested speakers too; here k-means and pretraining read the training part.",
    True: "As in the paper, k-means and pretraining read the tested speakers too.",
}
V1_NOTE = "The wav2vec (v1) was fine-tuned outside these folds: whether it was shown tested speakers is not known here."
HUBERT_LABELS_NOTE = "Frame labels are clusters of phase 1b's HuBERT in place of a fine-tuned wav2vec (v1)."
ALL = "all"  # in a cell's name, in the place of K
HEADS = {
    "shift": "temporal shift (ShiftCNN)",
    "superb": "correlation pooling on frozen layers (SUPERB)",
    "attentive_statistics": "attentive statistics",
}


@dataclass(frozen=True)
class Weights:
    """Pretrained files: paths, or "" where the experiment has none."""

    encoder: str = ""
    kmeans: str = ""
    wav2vec: str = ""
    wav2vec_v1: str = ""


@dataclass(frozen=True)
class Clustering:
    """One pass over the audio that makes frame labels: of layers of a model (of the graph, or a file), or of MFCC.

    A k-means of each layer and K is fitted, or the given model assigns (one layer, label set `km`).
    """

    model: str = ""
    layers: tuple[int, ...] = ()
    clusters: tuple[int, ...] = ()
    given: str = ""

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of its label sets."""
        return tuple(f"km{k}" for k in self.clusters) or ("km",)


@dataclass(frozen=True)
class Model:
    """A training. start: a model of the graph, a path, or "" for random weights; units: the folder of its labels,
    `clustering/l9` or `clustering/mfcc`; sets: those of them that it predicts."""

    config: str
    settings: tuple[str, ...]
    start: str = ""
    units: str = ""
    sets: tuple[str, ...] = ()
    system: str = ""


@dataclass(frozen=True)
class Method:
    """models: by name; a system's key is the name of its classifier, or "baseline"."""

    models: dict[str, Model] = field(default_factory=dict)
    clusterings: dict[str, Clustering] = field(default_factory=dict)
    systems: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a clustering's with the names of its label sets."""
        values = asdict(self)
        for name, clustering in self.clusterings.items():
            values["clusterings"][name]["sets"] = clustering.sets
        return values


def method(plan: Experiment, weights: Weights) -> Method:
    """The graph of one fold and seed. Raises ExperimentError for what is missing."""
    made = Method()
    _tapt(made, plan, weights)
    cells = _cells(plan)
    for cell in cells:
        _flea(made, plan, weights, cell)
    if weights.wav2vec:
        _chen_rudnicky(made, plan, weights)
    for name in HEADS:
        start = weights.encoder or "tapt_pretrain"
        made.models[name] = _model(plan, "finetune", (name,), start=start, system=name)
    made.systems.extend(row for name in plan.systems for row in _rows(name, plan, weights, cells))
    return _reached(made)


def _reached(made: Method) -> Method:
    """Only what the systems stand on."""
    waiting, models = [row["key"] for row in made.systems if row["key"] in made.models], set()
    while waiting:
        name = waiting.pop()
        if name not in models and name in made.models:
            models.add(name)
            model = made.models[name]
            waiting.append(model.start)
            if model.units:
                waiting.append(made.clusterings[model.units.split("/")[0]].model)
    kept = {name: model for name, model in made.models.items() if name in models}
    used = {model.units.split("/")[0] for model in kept.values() if model.units}
    clusterings = {name: clustering for name, clustering in made.clusterings.items() if name in used}
    return Method(kept, clusterings, made.systems)


def cell_name(layer: int, clusters: int | str) -> str:
    """`l9_k50`, as it stands in names; `l9_kall` where phase 2 predicts the clusters of all K at once."""
    return f"l{layer}_k{clusters}"


class Cell(NamedTuple):
    """A layer and the K whose clusters phase 2 predicts: one, or all at once."""

    system: str
    layer: int
    ks: tuple[int, ...]

    @property
    def name(self) -> str:
        """As it stands in the names of models."""
        return cell_name(self.layer, self.ks[0] if len(self.ks) == 1 else ALL)


def _cells(plan: Experiment) -> list[Cell]:
    """Those of the systems that the experiment has."""
    alone = [Cell("flea", layer, (k,)) for layer in plan.layers for k in plan.clusters]
    joint = [Cell("flea_targets", layer, tuple(plan.clusters)) for layer in plan.layers]
    return [cell for cell in (*alone, *joint) if cell.system in plan.systems]


def _tapt(made: Method, plan: Experiment, weights: Weights) -> None:
    """Phases 1a and 1b, and 1c: the clusters of 1b's layers."""
    if weights.encoder and not weights.kmeans:
        raise ExperimentError(
            "first_units.kmeans: a pretrained encoder needs the k-means model of its units, such as hubert-km500"
        )
    made.clusterings["first"] = first = (
        Clustering(weights.encoder, (plan.first_units.layer,), given=weights.kmeans)
        if weights.encoder
        else Clustering(clusters=(plan.first_units.clusters,))
    )
    made.models["tapt_pretrain"] = _model(
        plan, "pretrain", ("tapt_pretrain",), start=weights.encoder, units=_folder("first", first), sets=first.sets
    )
    pooled = override("model.pooling", "mean")
    made.models["tapt"] = _model(plan, "finetune", ("tapt",), pooled, start="tapt_pretrain")
    made.clusterings["tapt"] = Clustering("tapt", tuple(sorted(plan.layers)), tuple(sorted(plan.clusters)))


def _folder(name: str, clustering: Clustering) -> str:
    """Where the labels of a clustering of one layer, or of MFCC, lie."""
    return f"{name}/l{clustering.layers[0]}" if clustering.layers else f"{name}/mfcc"


def _flea(made: Method, plan: Experiment, weights: Weights, cell: Cell) -> None:
    """Phases 2 and 3 of one cell."""
    start, units, sets = weights.encoder or "tapt_pretrain", f"tapt/l{cell.layer}", tuple(f"km{k}" for k in cell.ks)
    made.models[f"align_{cell.name}"] = _model(plan, "pretrain", ("align",), start=start, units=units, sets=sets)
    for pooling in plan.poolings:
        pooled = override("model.pooling", pooling_of(plan, pooling))
        groups = ("flea", OF_POOLING + pooling)
        labels: dict[str, Any] = {"units": units, "sets": sets[:1]} if _is_consistent(plan, pooling) else {}
        made.models[f"flea_{cell.name}_{pooling}"] = _model(
            plan, "finetune", groups, pooled, start=f"align_{cell.name}", **labels
        )


def _is_consistent(plan: Experiment, pooling: str) -> bool:
    """Whether phase 3 with this pooling holds frames to their clusters: of several K, to the first's."""
    return bool({**plan.settings.get("flea", {}), **plan.settings.get(OF_POOLING + pooling, {})}.get(CONSISTENCY))


def pooling_of(plan: Experiment, name: str) -> str:
    """The pooling that a name in `poolings` stands for: itself, or what its settings say."""
    return str(plan.settings.get(OF_POOLING + name, {}).get("model.pooling", name))


def _chen_rudnicky(made: Method, plan: Experiment, weights: Weights) -> None:
    """V-FT, TAPT and P-TAPT on wav2vec 2.0 (Chen and Rudnicky, 2023)."""
    source, layer = (weights.wav2vec_v1, 1) if weights.wav2vec_v1 else ("tapt", plan.p_tapt.layer)
    made.clusterings["p_tapt"] = labels = Clustering(source, (layer,), tuple(plan.p_tapt.clusters))
    made.models["w2v_tapt_pretrain"] = _model(plan, "wav2vec_pretrain", ("w2v_tapt_pretrain",), start=weights.wav2vec)
    made.models["p_tapt_pretrain"] = _model(
        plan, "pretrain", ("p_tapt_pretrain",), start=weights.wav2vec, units=_folder("p_tapt", labels),
        sets=labels.sets, system="p_tapt",
    )  # fmt: skip
    starts = {"v_ft": weights.wav2vec, "w2v_tapt": "w2v_tapt_pretrain", "p_tapt": "p_tapt_pretrain"}
    for name, start in starts.items():
        made.models[name] = _model(plan, "finetune", ("chen_rudnicky", name), start=start, system="chen_rudnicky")


def _model(plan: Experiment, config: str, groups: tuple[str, ...], *fixed: str, **values: Any) -> Model:
    """fixed: overrides that the method itself sets, whatever the settings say."""
    system = Path(plan.config_dir) / "system" / f"{values['system']}.yaml" if "system" in values else None
    return Model(config, (*overrides(plan.settings, (config, *groups), system), *fixed), **values)


def _rows(name: str, plan: Experiment, weights: Weights, cells: list[Cell]) -> list[dict[str, Any]]:
    """What the report says of a system; for `flea` and `flea_targets` one for each cell and pooling."""
    own = [cell for cell in cells if cell.system == name]
    if own:
        return [_cell_row(plan, cell, pooling) for cell in own for pooling in plan.poolings]
    if name == "baseline":
        return [{"key": name, "title": "logistic regression on log-mel", "group": name, "seeded": False}]
    row: dict[str, Any] = {"key": name, "seeded": True}
    if name == "tapt":
        return [{**row, "title": "TAPT, average pooling", "group": "tapt"}]
    if name in HEADS:
        return [{**row, "title": HEADS[name], "group": "heads"}]
    titles = {"v_ft": "V-FT (wav2vec 2.0)", "w2v_tapt": "TAPT (wav2vec 2.0)", "p_tapt": "P-TAPT"}
    row = {**row, "title": titles[name], "group": "wav2vec"}
    if name == "p_tapt":
        leak = LEAK_NOTES[plan.transductive or plan.protocol in SHARED_VALID]
        if weights.wav2vec_v1:
            row["note"] = f"{V1_NOTE} {leak}"
        else:
            row["title"] += " (HuBERT labels)"
            row["note"] = f"{HUBERT_LABELS_NOTE} {leak}"
    return [row]


def _cell_row(plan: Experiment, cell: Cell, pooling: str) -> dict[str, Any]:
    """Of a cell and a pooling; a cell of one K has all that a place in the grid needs."""
    title = f"FLEA, layer {cell.layer}, K {' + '.join(map(str, cell.ks))}"
    row = {"key": f"flea_{cell.name}_{pooling}", "group": "flea", "seeded": True}
    row |= {"layer": cell.layer, "pooling": pooling}
    if len(cell.ks) == 1:
        return {**row, "title": f"{title}, {pooling_title(pooling)}", "clusters": cell.ks[0]}
    row["title"] = f"{title} at once, {pooling_title(pooling)}"
    if _is_consistent(plan, pooling):
        row["note"] = f"Frames are held to the clusters of K {cell.ks[0]}, the first (criterion.consistency)."
    return row
