"""`flea_wav2vec2`: fairseq's wav2vec 2.0 for contrastive pretraining, with a warm start and seeded masks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fairseq.models import register_model
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from fairseq.tasks import FairseqTask
from omegaconf import II
from torch import Tensor

from flea_fairseq.errors import AudioError, CheckpointError
from flea_fairseq.models.checkpoints import Checkpoint, load_state, read_checkpoint
from flea_fairseq.models.lean_layer import make_lean
from flea_fairseq.models.masking import frame_mask
from flea_fairseq.models.seeding import SeededForward
from flea_fairseq.models.warm_start import check_shape, freeze_cnn, make_safe

FIXED = {"layer_type": "transformer", "quantize_input": False, "quantizer_depth": 1, "target_glu": False,
         "mask_selection": "static", "mask_dropout": 0.0, "no_mask_overlap": False, "require_same_masks": True,
         "mask_channel_prob": 0.0}  # fmt: skip
HEAD = ("quantizer.vars", "quantizer.weight_proj.weight", "quantizer.weight_proj.bias",
        "project_q.weight", "project_q.bias", "final_proj.weight", "final_proj.bias")  # fmt: skip


@dataclass
class FleaWav2Vec2Config(Wav2Vec2Config):
    init_checkpoint: str = field(
        default="",
        metadata={
            "help": "start from these weights, quantizer included: fairseq .pt or Hugging Face folder"
            " (empty: random weights of the shape given here)"
        },
    )
    seed: int = II("common.seed")


def head_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """The settings that describe a checkpoint's quantizer and projections.

    Raises CheckpointError where it has none, and pretraining cannot go on.
    """
    missing = [name for name in HEAD if name not in checkpoint.head_state]
    if missing:
        raise CheckpointError(
            f"{checkpoint.path}: without {', '.join(missing)} its contrastive pretraining cannot go on: a fine-tuned "
            "model or a plain Wav2Vec2Model; give the pretrained wav2vec_small.pt or a Wav2Vec2ForPreTraining folder"
        )
    (_, codes, width), (final_dim, latent_dim) = (checkpoint.head_state[name].shape for name in (HEAD[0], HEAD[3]))
    groups = latent_dim // width
    return {
        "quantize_targets": True,
        "latent_groups": groups,
        "latent_vars": codes // groups,
        "latent_dim": 0 if latent_dim == final_dim else latent_dim,
        "final_dim": final_dim,
    }


@register_model("flea_wav2vec2", dataclass=FleaWav2Vec2Config)
class FleaWav2Vec2Model(SeededForward, Wav2Vec2Model):
    """wav2vec 2.0 with its quantizer. Parameters, loss and gradients are fairseq's for the same masks.

    Masks depend on the seed, the update and the utterance, and fit clips that are shorter than one; as in fairseq,
    a batch then keeps as many masked frames of each utterance as the one with the fewest has. `feature_grad_mult=0`
    freezes the convolutions.
    """

    def __init__(self, cfg: FleaWav2Vec2Config) -> None:
        make_safe(cfg, FIXED)
        super().__init__(cfg)
        self.seed = cfg.seed
        make_lean(self.encoder)
        freeze_cnn(self, cfg.feature_grad_mult)

    @classmethod
    def build_model(cls, cfg: FleaWav2Vec2Config, task: FairseqTask) -> "FleaWav2Vec2Model":
        """Called by fairseq."""
        if not cfg.init_checkpoint:
            return cls(cfg)
        checkpoint = read_checkpoint(cfg.init_checkpoint)
        check_shape(checkpoint, cfg, task.cfg.normalize, head_settings(checkpoint))
        model = cls(cfg)
        head = {name: checkpoint.head_state[name] for name in HEAD}
        load_state(model, {**checkpoint.encoder_state, **head}, checkpoint.path)
        return model

    def forward(
        self,
        source: Tensor,
        padding_mask: Tensor | None = None,
        *args: Any,
        utterances: Tensor | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """As fairseq's. utterances: (B,) numbers that masks are drawn from, with the seed and the update."""
        self._rngs = self.generators(len(source), utterances)
        with self.seeded():
            return super().forward(source, padding_mask, *args, **options)

    def apply_mask(
        self, x: Tensor, padding_mask: Tensor | None, mask_indices: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """As fairseq's, but masks that are not given come from generators of our own.

        x: (B, T, D). Raises AudioError for utterances of which no two frames can be masked, the other's contrast.
        """
        if mask_indices is None:
            mask = frame_mask((len(x), x.size(1)), padding_mask, self.mask_prob, self.mask_length, self._rngs)
            mask_indices = same_counts(mask, self._rngs).to(x.device)
            if int(mask_indices[0].sum()) < 2:
                raise AudioError(
                    f"a batch cut to {x.size(1)} frame(s) of 20 ms, as long as its shortest utterance: contrastive "
                    "pretraining needs 3; leave utterances under 1040 samples (65 ms) out of the split's .tsv"
                )
        return super().apply_mask(x, padding_mask, mask_indices=mask_indices, **options)


def same_counts(mask: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Unmask frames at random until each row of a mask (B, T) has as many as the row with the fewest."""
    fewest = int(mask.sum(1).min())
    result = torch.zeros_like(mask)
    for row, (masked, rng) in enumerate(zip(mask.cpu(), rngs)):
        result[row, rng.permutation(np.flatnonzero(masked))[:fewest]] = True
    return result
