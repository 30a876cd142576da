"""One update of masked prediction, `flea_hubert` beside fairseq's own `hubert`: HuBERT-base, 4 x 5 s, fp32.

Forward, backward and fairseq's Adam, with the dropouts of HuBERT's base config. Both sides have the same weights,
waveforms, labels and masks, and the same convolutions (trained, or frozen: feature_grad_mult 0, which in fairseq stops
the gradient there as well). fairseq is measured as its default config is, and with its best options (skip_nomask).
Before anything is timed every arm computes the loss without dropout: all must agree to 1e-4.
"""

import statistics
import time

import click
import harness
import numpy as np
import torch

CNN = {"trained": 1.0, "frozen": 0.0}
PEERS = {"default": {}, "best": {"skip_nomask": True}}
BARS = {  # (peer, K, CNN): at least so many times faster
    ("best", 50, "trained"): 1.0, ("best", 50, "frozen"): 1.0,
    ("best", 500, "trained"): 1.5, ("best", 500, "frozen"): 1.7,
    ("default", 500, "trained"): 1.8, ("default", 500, "frozen"): 2.1,
}  # fmt: skip
MEMORY_BAR = 0.6
SEED, BATCH, SAMPLES, FRAMES = 1, 4, 80000, 249


def arm(system: str, clusters: int, cnn: str, steps: int, bf16: bool) -> None:
    """Train `steps` updates after one that is not timed; the median of their seconds, and the first loss a frame."""
    model, criterion = build(system, clusters, CNN[cnn], bf16)
    sample = batch(clusters)
    if system == "ours":
        sample["net_input"]["utterances"] = torch.arange(BATCH)  # what masks are drawn from
    loss = loss_without_dropout(model, criterion, sample)
    from fairseq.optim.adam import Adam

    optimiser = Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4, betas=(0.9, 0.98), weight_decay=0.01)
    seconds = [update(model, criterion, optimiser, sample) for _ in range(steps + 1)][1:]
    harness.report_arm(seconds=statistics.median(seconds), loss=loss)


def build(system: str, clusters: int, feature_grad_mult: float, bf16: bool):
    """The model and criterion of an arm: "ours", or fairseq's with the options of PEERS."""
    from fairseq.criterions.hubert_criterion import HubertCriterion
    from fairseq.data.dictionary import Dictionary
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig
    from omegaconf import OmegaConf

    labels = Dictionary()
    for unit in range(clusters):
        labels.add_symbol(str(unit))
    task = HubertPretrainingConfig(data="", labels=["km"], label_rate=50.0, sample_rate=16000)
    values = dict(label_rate=50.0, final_dim=256, untie_final_proj=True, feature_grad_mult=feature_grad_mult,
                  mask_prob=0.8, dropout_input=0.1, dropout_features=0.1)  # fmt: skip
    torch.manual_seed(SEED)
    if system == "ours":
        import flea_fairseq.tasks  # noqa: F401  what fairseq imports from common.user_dir
        from flea_fairseq.criterions.masked_prediction import MaskedPrediction
        from flea_fairseq.models.flea_hubert import FleaHubertConfig, FleaHubertModel

        config = FleaHubertConfig(seed=SEED, precision="bf16" if bf16 else "fp32", **values)
        model = FleaHubertModel(OmegaConf.structured(config), task, [labels])
        return model, MaskedPrediction(None, alpha=1.0, feature_penalty=10.0)
    model = HubertModel(HubertConfig(**values, **PEERS[system]), task, [labels])
    model.apply_mask = shared_masks(model)
    return model, HubertCriterion(None, 1.0, 0.0, loss_weights=[10.0])


def shared_masks(peer):
    """fairseq's apply_mask with the masks that ours draws in its first update."""
    from flea_fairseq.models.masking import apply_masks

    def apply(x, padding_mask, target_list):
        rngs = [np.random.default_rng((SEED, 0, row)) for row in range(len(x))]
        return apply_masks(x, padding_mask, peer.mask_emb, (0.8, 10), (0.0, 10), rngs)

    return apply


def batch(clusters: int) -> dict:
    """4 x 5 s of noise with drawn labels, as fairseq's HuBERT dataset collates them."""
    generator = torch.Generator().manual_seed(SEED)
    source = torch.randn(BATCH, SAMPLES, generator=generator) * 0.1
    labels = torch.randint(4, clusters + 4, (BATCH, FRAMES), generator=generator)
    padding = torch.zeros(BATCH, SAMPLES, dtype=torch.bool)
    return {
        "id": torch.arange(BATCH),
        "target_list": [labels],
        "net_input": {"source": source, "padding_mask": padding},
    }


def loss_without_dropout(model, criterion, sample: dict) -> float:
    """The loss a predicted frame, with masks and without anything else that is drawn."""
    dropouts = {module: module.p for module in model.train().modules() if hasattr(module, "p")}
    for module in dropouts:
        module.p = 0.0
    first, model.encoder.dropout = model.encoder.dropout, 0.0  # before the first layer; no module
    with torch.no_grad():
        loss, frames, _ = criterion(model, sample)
    for module, p in dropouts.items():
        module.p = p
    model.encoder.dropout = first
    return float(loss / frames)


def update(model, criterion, optimiser, sample: dict) -> float:
    """One update; its seconds."""
    started = time.perf_counter()
    loss, frames, _ = criterion(model, sample)
    (loss / frames).backward()
    optimiser.step()
    optimiser.zero_grad()
    return time.perf_counter() - started


@click.command(epilog="Example: python examples/benchmarks/pretrain_step.py --runs 3")
@click.option("--runs", default=3, show_default=True, help="Processes of each arm; the median counts.")
@click.option("--steps", default=3, show_default=True, help="Timed updates a process.")
@click.option("--bf16", is_flag=True, help="Ours in bf16 (its loss is not compared).")
@click.option("--arm", "arm_values", nargs=4, type=(str, int, str, int), hidden=True)
def main(runs: int, steps: int, bf16: bool, arm_values) -> None:
    """Time one update of masked prediction against fairseq's."""
    if arm_values:
        return arm(*arm_values, bf16)
    harness.begin("pretrain_step", seed=SEED, runs=runs, steps=steps, bf16=bf16, threads=torch.get_num_threads())
    rows = []
    for clusters in (50, 500):
        for cnn in CNN:
            peers = [name for name in PEERS if (name, clusters, cnn) in BARS]
            arms = {name: (name, clusters, cnn, steps, *["--bf16"] * bf16) for name in ("ours", *peers)}
            done = harness.take_turns(__file__, arms, runs)
            rows += compare(clusters, cnn, done, bf16)
    harness.conclude("pretrain_step", rows)


def compare(clusters: int, cnn: str, done: dict[str, list[dict]], bf16: bool) -> list[harness.Row]:
    """The rows of one K and CNN setting. Ends the benchmark where the losses differ."""
    case, ours, rows = f"K={clusters} CNN {cnn}", done.pop("ours"), []
    for peer, theirs in done.items():
        if not bf16 and abs(ours[0]["loss"] - theirs[0]["loss"]) > 1e-4 * theirs[0]["loss"]:
            raise SystemExit(f"{case}: loss {ours[0]['loss']} (ours), {theirs[0]['loss']} (fairseq, {peer})")
        seconds, peaks = ([harness.column(arm, key) for arm in (ours, theirs)] for key in ("seconds", "peak_mib"))
        rows.append(harness.speed_up(f"{case}, fairseq {peer}", *seconds, BARS[peer, clusters, cnn]))
        bar = MEMORY_BAR if peer == "default" else None
        rows.append(harness.share(f"{case}, fairseq {peer}, memory", "MiB", *peaks, bar))
    return rows


if __name__ == "__main__":
    main()
