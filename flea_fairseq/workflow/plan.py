"""`flea plan`: what an experiment will cost on so many hours of audio, before a corpus is there."""

from dataclasses import dataclass
from pathlib import Path

from flea_fairseq.errors import ExperimentError
from flea_fairseq.evaluation.tables import aligned
from flea_fairseq.workflow.estimate import audio_seconds, is_base, merged_config
from flea_fairseq.workflow.experiment import Experiment, read_experiment
from flea_fairseq.workflow.method import Clustering, Method, Weights, method
from flea_fairseq.workflow.rates import Rate, read_memory, read_rates
from flea_fairseq.workflow.run import cached, check_poolings

UTTERANCE = 4.5  # seconds: IEMOCAP's mean
MODEL_GB = 0.38  # 95 million parameters in fp32
CHECKPOINT_GB = 1.14  # the same with Adam's two states
LABEL_BYTES = 3  # of a `.km`, a frame
CACHE_BYTES = 2048  # of the kept CNN output, a frame
FRAMES = 50  # a second
DIM = 768


@dataclass(frozen=True)
class Cost:
    """A kind of step: how often it runs, seconds of each run and how they come about, gigabytes that stay."""

    step: str
    runs: int
    seconds: float
    arithmetic: str
    disk: float

    @property
    def hours(self) -> float:
        return self.runs * self.seconds / 3600


def plan(experiment: Path, hours: float, gpus: int = 1, folds: int = 5) -> str:
    """Expected time, disk and GPU-hours of each step of an experiment on `hours` of audio.

    folds: parts that the corpus is split into; gpus: GPUs that steps run on side by side; 0: machines like the one in
    the table of rates, one step each. All steps are HuBERT-base's size. The rates and the machines they were measured
    on are in workflow/rates.tsv. Raises ExperimentError for an encoder of another shape, of which they say nothing, and
    for a pooling that a run would refuse.
    """
    values = read_experiment(experiment)
    check_poolings(values)
    made = method(values, _weights(values))
    rates = read_rates("gpu" if gpus else "cpu")
    run = len(values.folds) or folds
    chains = run * len(values.seeds)
    listed = costs(values, made, hours * 3600, folds, chains, rates)
    total, longest = sum(cost.hours for cost in listed), longest_chain(made, listed)
    disk = sum(cost.runs * cost.disk for cost in listed)
    rows = [("step", "runs", "hours each", "hours", "disk GB", "seconds of a run")]
    rows += [
        (c.step, str(c.runs), short(c.seconds / 3600), short(c.hours), short(c.runs * c.disk), c.arithmetic)
        for c in listed
    ]
    checkpoints = 2 * CHECKPOINT_GB * min(gpus or 1, chains)
    many, unit = (gpus, "GPU") if gpus else (1, "machine")
    lines = [
        f"{values.name}: {hours:g} h of audio, {run} of {folds} folds, {len(values.seeds)} seeds; each fold learns "
        f"from {folds - 1} of {folds} parts",
        aligned(rows),
        f"{short(total)} {unit}-hours; on {many} at once {short(max(total / many, longest))} h (all work divided: "
        f"{short(total / many)} h; the longest chain of steps that wait for each other: {short(longest)} h)",
        f"disk: {short(disk)} GB stay, {short(checkpoints)} GB more while {many} trainings run",
        *(f"rate: {rate.step}: {rate.seconds:.3g} s {rate.unit}; {rate.where}" for rate in rates.values()),
        *_limits(hours),
    ]
    return "\n".join(lines)


def short(number: float) -> str:
    """Two digits, or all before the point: 0.0018, 7.6, 1,250."""
    return f"{number:.2g}" if number < 100 else f"{number:,.0f}"


def costs(
    values: Experiment, made: Method, corpus: float, parts: int, chains: int, rates: dict[str, Rate]
) -> list[Cost]:
    """The steps of all folds and seeds.

    corpus: seconds of audio, of which a fold tests one of `parts` parts and learns from the others; chains: folds times
    seeds.
    """
    seconds, listed = corpus * (parts - 1) / parts, []
    for name, clustering in made.clusterings.items():
        runs = chains if not clustering.given else max(1, chains // len(values.seeds))
        listed.append(_clustering(name, clustering, values, seconds, runs, rates))
    for name in made.models:
        config = merged_config(made, name, Path(values.config_dir))
        if not is_base(config):
            raise ExperimentError(f"{name} has another shape than HuBERT-base, whose speed is all that is known here")
        audio = audio_seconds(config, [UTTERANCE])  # of an epoch that is one utterance long
        audio *= 1 if config["optimization.max_update"] else seconds / UTTERANCE
        each = rates["train"].seconds
        listed.append(Cost(name, chains, audio * each, f"{short(audio / 3600)} h of audio x {each:.3g}", MODEL_GB))
    tested = sum(1 for row in made.systems if row["key"] in made.models)
    if values.cnn_cache and cached(values, made):
        frames = corpus * FRAMES
        listed.append(Cost("CNN's output", 1, 0.0, f"{frames:.2g} frames, kept", frames * CACHE_BYTES / 1e9))
    each, audio = rates["evaluate"].seconds, corpus / parts
    how = f"{short(audio / 3600)} h of audio x {each:.3g}"
    listed.append(Cost("evaluate", chains * tested, audio * each, how, 0.0))
    return listed


def longest_chain(made: Method, listed: list[Cost]) -> float:
    """Hours of the steps of one fold and seed that wait for each other."""
    hours = {cost.step: cost.seconds / 3600 for cost in listed}

    def until(name: str) -> float:
        if name not in made.models:  # a file that is there, or random weights
            return 0.0
        model = made.models[name]
        labels = model.units.split("/")[0]
        waits = [until(model.start)]
        if labels:
            waits.append(until(made.clusterings[labels].model) + hours[f"cluster {labels}"])
        return max(waits) + hours[name]

    return max((until(name) for name in made.models), default=0.0) + hours["evaluate"]


def _clustering(
    name: str, clustering: Clustering, values: Experiment, seconds: float, runs: int, rates: dict[str, Rate]
) -> Cost:
    """One pass over the audio, and k-means of each layer and K on at most as many frames as its memory holds."""
    layers = max(1, len(clustering.layers))
    frames = min(seconds * FRAMES, values.max_frames or (2 << 30) // (4 * DIM * layers))
    fits = frames * sum(clustering.clusters) * layers
    label, kmeans = rates["label"].seconds, rates["kmeans"].seconds
    how = f"{short(seconds / 3600)} h of audio x {label:.3g}" + (
        f" + {fits:.2g} frames x K x {kmeans:.2g}" if fits else ""
    )
    disk = seconds * FRAMES * LABEL_BYTES * layers * len(clustering.sets) / 1e9
    return Cost(f"cluster {name}", runs, seconds * label + fits * kmeans, how, disk)


def _weights(values: Experiment) -> Weights:
    """The pretrained files by name: none of them need be there."""
    return Weights(values.encoder, values.first_units.kmeans, values.wav2vec, values.p_tapt.wav2vec_v1)


def _limits(hours: float) -> list[str]:
    """What one site's memory and one dataset can hold, from measured sizes."""
    lines = round(hours * 3600 / UTTERANCE)
    memory = {row["lines"]: row for row in read_memory()}
    lines_known = ", ".join(f"{float(row['mib']) / 1024:.2g} GiB at {int(n):,} lines" for n, row in memory.items())
    per_line = max(float(row["mib"]) / int(n) for n, row in memory.items())
    million = round(1_000_000 * 3600 / UTTERANCE)
    return [
        "memory: fairseq's dataset keeps every name and the place of every label in each process: "
        f"{lines_known} (measured); {lines:,} lines here, {per_line * lines / 1024:.2g} GiB a process",
        f"at 1,000,000 h: {million:,} lines would take {per_line * million / 1024:.0f} GiB a process: train on a "
        "sample, or on several manifests one after the other. Updates are counted, so pretraining costs the same; "
        "labelling and fine-tuning grow with the audio: --shards as many as there are GPUs",
    ]
