"""A whole experiment: every phase for every fold, as a Snakemake graph that resumes where it stopped."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flea_fairseq.data.audio import frame_count
from flea_fairseq.data.files import holding, read_json, write_text
from flea_fairseq.data.manifest import manifest_rows, text_problem
from flea_fairseq.errors import ExperimentError
from flea_fairseq.workflow.engine import (
    ONE_CORE,
    Means,
    require_snakemake,
    snakemake,
    snakemake_options,
    step_environment,
)
from flea_fairseq.workflow.estimate import estimate, merged_config
from flea_fairseq.workflow.experiment import WAV2VEC_SYSTEMS, Experiment, read_experiment
from flea_fairseq.workflow.method import Method, Weights, cell_name, method, pooling_of
from flea_fairseq.workflow.provenance import hardware, revision, versions
from flea_fairseq.workflow.settings import OF_POOLING, pooling_files
from flea_fairseq.workflow.slurm import jobs_in

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"  # of a checkout


def run(
    experiment: Path,
    corpus: Path,
    output: Path,
    means: Means = ONE_CORE,
    dry_run: bool = False,
    changes: Sequence[str] = (),
) -> Path:
    """Run an experiment.yaml on the corpus in the folder `corpus`; everything it makes is in `output`.

    means: steps that do not need each other run side by side on them; changes: `key=value` in place of the file's. No
    model of the same inputs and settings is trained again. dry_run: read and split the corpus, print what would be run
    and what it would cost, and download nothing. Returns the path of results.json.
    Raises ExperimentError naming the failed step, with the end of its log.
    """
    require_snakemake()
    plan = read_experiment(experiment, list(changes))
    if not corpus.is_dir():
        raise ExperimentError(f"{corpus}: no such folder; --corpus names the root of the recordings")
    check_names(corpus, output)
    check_manifest(plan, changes)
    files = weights(plan, download=not dry_run)
    check_inputs(plan, files, corpus)
    check_layers(plan, files)
    made = method(plan, files)
    for name in made.models:
        merged_config(made, name, Path(plan.config_dir))  # refused now, not by the training
    if dry_run:
        refuse_other_split(plan, output)
    check_poolings(plan)
    options = snakemake_options(means)
    output.mkdir(parents=True, exist_ok=True)
    busy = (
        f"{output}: another `flea run`, or steps of one that was killed, are at work there; wait for them, or name "
        "another --output"
    )
    with holding(output / ".lock", busy) as lock:  # Snakemake and its local steps hold it too
        refuse_living_jobs(output)
        graph = {**graph_config(plan, made, corpus.resolve()), "shards": means.shards}
        environment = step_environment(output, means)
        snakemake(output, {**graph, "folds": [], "analysed": []}, "prepare", options, environment, lock)
        print_notes(output / "logs/folds.log")
        graph["folds"] = chosen_folds(plan, output)
        check_frames(plan, made, [output / f"folds/{fold}/ssl.tsv" for fold in graph["folds"]])
        graph["analysed"] = analysed(plan, made, graph["folds"])
        facts = {**provenance(plan, made, corpus), "folds": graph["folds"], "analysed": graph["analysed"]}
        if not (dry_run and (output / "run.json").exists()):
            write_changed(output / "run.json", json.dumps(facts, indent=2) + "\n")
        options += ["--dry-run"] * dry_run
        printed = snakemake(output, graph, "all", options, environment, lock)
    if dry_run:
        print(estimate(printed, made, Path(plan.config_dir), output / "folds"))
    return output / "results.json"


def check_names(corpus: Path, output: Path) -> None:
    """Raise ExperimentError for a folder whose name a later step could not write down."""
    for path in (corpus.resolve(), output.resolve()):
        problem = "holds `${`, which hydra reads as a reference" if "${" in str(path) else text_problem(str(path))
        if problem:
            raise ExperimentError(f"{str(path)!r} {problem}; rename the folder")


def check_inputs(plan: Experiment, files: Weights, corpus: Path) -> None:
    """Raise ExperimentError for a given file that the graph could not name: it is an input, and inputs are patterns."""
    spans = str(corpus.resolve() / plan.spans) if plan.spans else ""
    for path in (plan.config_dir, spans, *asdict(files).values()):
        if "{" in path or (path and text_problem(path)):
            problem = text_problem(path) or "holds `{`, which Snakemake reads as a pattern"
            raise ExperimentError(f"{path!r} {problem}; rename the folder")


def check_manifest(plan: Experiment, changes: Sequence[str]) -> None:
    """Raise ExperimentError for an experiment file that names a program which the user did not name.

    The manifest script is run. Those of this project are known; another must be given by hand.
    """
    script = Path(plan.manifest)
    if script.parent != MANIFESTS and not any(change.partition("=")[0] == "manifest" for change in changes):
        raise ExperimentError(
            f"{script}: the experiment file names a program to run that is none of {MANIFESTS}; read it, and if it may "
            f"run: --set {shlex.quote(f'manifest={script}')}"
        )


def refuse_living_jobs(output: Path) -> None:
    """Raise ExperimentError while Slurm jobs of an earlier run work in the folder: two would write the same files."""
    if jobs := [job.number for job in jobs_in(output)]:
        raise ExperimentError(
            f"{output}: Slurm jobs of an earlier `flea run` are at work there; wait for them, or end them: "
            f"scancel {' '.join(jobs)}"
        )


def graph_config(plan: Experiment, made: Method, corpus: Path) -> dict[str, Any]:
    """What the Snakefile needs, with absolute paths."""
    values = asdict(plan)
    kept = ("manifest", "manifest_options", "config_dir", "protocol", "n_folds", "split_seed", "transductive", "seeds",
            "threads", "poolings", "examined", "projected_frames", "max_frames")  # fmt: skip
    return {
        **{name: values[name] for name in kept},
        "cached": cached(plan, made) if plan.cnn_cache else [],
        "method": made.to_dict(),
        "examined_cell": cell_name(plan.examined.layer, plan.examined.clusters),
        "corpus": str(corpus),
        "spans": str(corpus / plan.spans) if plan.spans else "",
    }


def cached(plan: Experiment, made: Method) -> list[str]:
    """The trainings whose CNN gives an utterance the same output in every epoch: frozen, and without random crops."""
    trainings = {
        name: merged_config(made, name, Path(plan.config_dir))
        for name, model in made.models.items()
        if model.config == "finetune"
    }
    return [name for name, c in trainings.items() if c["model.freeze_cnn"] and c["task.crop"] == "start"]


def weights(plan: Experiment, download: bool) -> Weights:
    """The pretrained files that the experiment's systems start from."""
    systems = set(plan.systems)
    hubert = systems - {"baseline", "v_ft", "w2v_tapt"}  # P-TAPT too: 1b's clusters are its labels
    needed = (
        (plan.encoder, hubert),
        (plan.first_units.kmeans, hubert),
        (plan.wav2vec, systems & set(WAV2VEC_SYSTEMS)),
        (plan.p_tapt.wav2vec_v1, systems & {"p_tapt"}),
    )
    return Weights(*(weights_path(name if by else "", download) for name, by in needed))


def weights_path(name: str, download: bool) -> str:
    """A path as it is; a name that `flea fetch` knows as the path of its file, there or not unless it is downloaded."""
    from flea_fairseq.models.fetch import SOURCES, fetch, location

    if name in SOURCES:
        return str(fetch(name) if download else location(name))
    if name and not Path(name).exists():
        raise ExperimentError(f"{name}: no such file or folder, and none of {', '.join(SOURCES)}")
    return str(Path(name).resolve()) if name else ""


def check_layers(plan: Experiment, files: Weights) -> None:
    """Raise ExperimentError for a layer that the encoder, if it is there, does not have; hours later a step would."""
    if not (files.encoder and Path(files.encoder).exists()):
        return
    from flea_fairseq.models.checkpoints import read_checkpoint  # fairseq: seconds

    depth = read_checkpoint(files.encoder).encoder.encoder_layers
    for name, layer in (("layers", max(plan.layers)), ("first_units.layer", plan.first_units.layer)):
        if layer > depth:
            raise ExperimentError(f"{name}: {layer}, but {files.encoder} has layers 1 to {depth}")


def check_poolings(plan: Experiment) -> None:
    """Raise ExperimentError, hours before the classifier, for a pooling that there is not, or under another's name."""
    from flea_fairseq.models.pooling import POOLINGS  # torch: seconds

    named = [group.removeprefix(OF_POOLING) for group in plan.settings if group.startswith(OF_POOLING)]
    for name in (*plan.poolings, *named):
        pooling = pooling_of(plan, name)
        if name in POOLINGS and pooling != name:
            raise ExperimentError(
                f"settings.flea_{name}.model.pooling is {pooling}: results of {pooling} would bear the name {name}; "
                f"put another name among the poolings, such as my_{pooling}, and set it in settings.flea_my_{pooling}"
            )
        if pooling not in POOLINGS:
            raise ExperimentError(
                f"poolings: {name!r} is unknown, expected some of {', '.join(POOLINGS)}, of the files "
                f"{', '.join(pooling_files(Path(plan.config_dir)))} in {plan.config_dir}/pooling, or a name for which "
                f"settings.flea_{name}.model.pooling is one of the former"
            )


def check_frames(plan: Experiment, made: Method, manifests: Sequence[Path]) -> None:
    """Raise ExperimentError for more clusters than frames to fit them on; hours later a step would."""
    from flea_fairseq.clustering.kmeans import check_clusters  # faiss

    wanted = max((count for clustering in made.clusterings.values() for count in clustering.clusters), default=0)
    for manifest in manifests:
        frames = sum(frame_count(samples) for _, samples in manifest_rows(manifest)[1])
        check_clusters(wanted, min(frames, plan.max_frames or frames), str(manifest))


def refuse_other_split(plan: Experiment, output: Path) -> None:
    """Raise ExperimentError where a dry run, which splits the corpus, would replace the folds of a run."""
    path = output / "run.json"
    if not path.exists():
        return
    before = read_json(path, ("experiment",), "name another --output")["experiment"]
    for name in ("protocol", "n_folds", "split_seed", "transductive"):
        if before.get(name) != getattr(plan, name):
            raise ExperimentError(
                f"{output}: holds a run with {name}={before.get(name)}, not {getattr(plan, name)}; "
                "name another --output"
            )


def analysed(plan: Experiment, made: Method, folds: Sequence[str]) -> list[str]:
    """What the report shows beside the scores: label sets of all cells, and what looks into the examined, of one K."""
    every = [f"results/{fold}/seed{seed}" for fold in folds for seed in plan.seeds]
    aligned = [model for name, model in made.models.items() if name.startswith("align_")]
    cells = sorted({(model.units, name) for model in aligned for name in model.sets})
    files = [f"{folder}/units/{units.replace('/', '_')}_{name}.json" for folder in every for units, name in cells]
    if f"align_{cell_name(plan.examined.layer, plan.examined.clusters)}" not in made.models:
        return files
    files.append(f"{every[0]}/projection.json")  # t-SNE is slow
    if {"mean", "attention"} <= set(plan.poolings):
        files += [f"results/{fold}/seed{plan.seeds[0]}/attention.json" for fold in folds]
    if plan.spans and "attention" in plan.poolings:
        files += [f"{folder}/frames.json" for folder in every]
    return files


def print_notes(log: Path) -> None:
    """Show what a step found worth saying."""
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        if line.startswith("note: "):
            print(line, file=sys.stderr)


def chosen_folds(plan: Experiment, output: Path) -> list[str]:
    """The folds to run: those named, or all that the protocol makes."""
    made = json.loads((output / "folds/index.json").read_text(encoding="utf-8"))
    unknown = [name for name in plan.folds if name not in made]
    if unknown:
        raise ExperimentError(f"folds: {', '.join(unknown)} are none of this protocol's: {', '.join(made)}")
    return plan.folds or made


def provenance(plan: Experiment, made: Method, corpus: Path) -> dict[str, Any]:
    """What a reader of the results has to know; no times, so that equal runs give equal files."""
    return {
        "name": plan.name,
        "protocol": plan.protocol,
        "seeds": plan.seeds,
        "corpus": corpus.resolve().name,
        "systems": made.systems,
        "reference": "tapt" if "tapt" in plan.systems else made.systems[0]["key"],
        "models": list(made.models),
        "versions": versions(),
        "revision": revision(),
        "hardware": hardware(),
        "experiment": asdict(plan),
    }


def write_changed(path: Path, text: str) -> None:
    """Write only what is new: an untouched file keeps its time, and nothing that reads it is run again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
