"""`flea_hubert`: fairseq's HuBERT with a warm start, a choice of prediction head, and its logits in one product."""

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.data.dictionary import Dictionary
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import register_model
from fairseq.models.hubert.hubert import HubertConfig, HubertModel
from fairseq.modules import GradMultiply
from fairseq.tasks import FairseqTask
from omegaconf import II
from torch import Tensor, nn

from flea_fairseq.models.checkpoints import ENCODER_PARTS, Checkpoint, load_state, read_checkpoint
from flea_fairseq.models.lean_cnn import convolve
from flea_fairseq.models.lean_layer import make_lean
from flea_fairseq.models.masking import apply_masks
from flea_fairseq.models.precision import PRECISION_HELP, PRECISIONS, in_precision
from flea_fairseq.models.seeding import SeededForward
from flea_fairseq.models.warm_start import check_shape, freeze_cnn, make_safe

logger = logging.getLogger(__name__)

FIXED = {"target_glu": False, "mask_selection": "static", "mask_channel_selection": "static",
         "no_mask_overlap": False, "no_mask_channel_overlap": False}  # fmt: skip


@dataclass
class FleaHubertConfig(HubertConfig):
    init_checkpoint: str = field(
        default="",
        metadata={
            "help": "start from these weights: fairseq .pt of any K, Hugging Face folder, flea_classifier"
            " (empty: random weights of the shape given here)"
        },
    )
    fresh_head: bool = field(
        default=False, metadata={"help": "draw a new prediction head even where the checkpoint's has the same K"}
    )
    head: ChoiceEnum(["cosine", "linear"]) = field(
        default="cosine",
        metadata={
            "help": "HuBERT's cosine similarities with embeddings of K labels and 4 special symbols,"
            " or a linear layer a label set with K outputs, as P-TAPT has"
        },
    )
    precision: ChoiceEnum(list(PRECISIONS)) = field(default="fp32", metadata={"help": PRECISION_HELP})
    seed: int = II("common.seed")


@register_model("flea_hubert", dataclass=FleaHubertConfig)
class FleaHubertModel(SeededForward, HubertModel):
    """Masked-prediction HuBERT. Same parameters, losses and gradients as fairseq's, with less memory and time.

    `feature_grad_mult=0` freezes the convolutions (no gradient, no weight decay); between 0 and 1 scales them.
    `head=linear` is P-TAPT's (Chen and Rudnicky, 2021): its softmax is over the K labels of a set and nothing else.
    """

    predicts_parts = True  # tells the criterion that forward() takes `masked` and `unmasked`

    def __init__(self, cfg: FleaHubertConfig, task_cfg: FairseqDataclass, dictionaries: list[Dictionary]) -> None:
        make_safe(cfg, FIXED)
        super().__init__(cfg, task_cfg, dictionaries)
        self.seed = cfg.seed
        self.precision = str(cfg.precision)
        make_lean(self.encoder)
        freeze_cnn(self, cfg.feature_grad_mult)
        self.linear_heads = None
        if str(cfg.head) == "linear":
            del self.final_proj, self.label_embs_concat
            self.special_symbols = dictionaries[0].nspecial  # their numbers come before the labels'
            self.linear_heads = nn.ModuleList(
                nn.Linear(cfg.encoder_embed_dim, len(dictionary) - dictionary.nspecial) for dictionary in dictionaries
            )

    @classmethod
    def build_model(cls, cfg: FleaHubertConfig, task: FairseqTask) -> "FleaHubertModel":
        """Called by fairseq."""
        if not cfg.init_checkpoint:
            return cls(cfg, task.cfg, task.dictionaries)
        checkpoint = read_checkpoint(cfg.init_checkpoint)
        check_shape(checkpoint, cfg, task.cfg.normalize)
        model = cls(cfg, task.cfg, task.dictionaries)
        model.warm_start(checkpoint, cfg.fresh_head)
        return model

    def warm_start(self, checkpoint: Checkpoint, fresh_head: bool) -> None:
        """Take the encoder's weights, and the prediction head's where it fits and a fresh one is not asked for."""
        own = {name: value for name, value in self.state_dict().items() if not name.startswith(ENCODER_PARTS)}
        stored = {} if fresh_head else checkpoint.head_state
        head = {name: stored[name] for name in own if name in stored and stored[name].shape == own[name].shape}
        if head.keys() != own.keys():
            head = own
            logger.info("new prediction head with %s classes", sum(self.num_classes))
        load_state(self, {**checkpoint.encoder_state, **head}, checkpoint.path)

    def forward(
        self,
        source: Tensor,
        target_list: list[Tensor] | None = None,
        padding_mask: Tensor | None = None,
        mask: bool = True,
        features_only: bool = False,
        output_layer: int | None = None,
        masked: bool = True,
        unmasked: bool = True,
        utterances: Tensor | None = None,
    ) -> dict[str, Any]:
        """As fairseq's, except that logits hold each class once, in the order of the labels: (frames, K + 4), or K.

        masked, unmasked: which frames to predict; the logits of the others are None and are not computed.
        utterances: (B,) numbers that masks are drawn from, with the seed and the update.
        """
        if padding_mask is not None and not bool(padding_mask.any()):
            padding_mask = None  # fairseq's crops are all of one length; without a mask, attention is faster
        self._rngs = self.generators(len(source), utterances)
        with self.seeded(), in_precision(self.precision, source.device):
            if features_only:
                return super().forward(source, target_list, padding_mask, mask, True, output_layer)
            x, targets, padding, mask_indices, penalty = self._encode(source, target_list, padding_mask, mask)
        true = torch.ones_like(mask_indices) if padding is None else ~padding
        if self.linear_heads is not None:
            targets = [target - self.special_symbols for target in targets]
            true = true & torch.stack(targets).ge(0).all(0)  # fairseq may take one padded frame for a true one
        chosen_m = true & mask_indices if masked and not self.skip_masked else None
        chosen_u = true & ~mask_indices if unmasked and not self.skip_nomask else None
        return {
            "logit_m_list": self._logits(x, chosen_m, len(targets)),
            "logit_u_list": self._logits(x, chosen_u, len(targets)),
            "target_m_list": [None if chosen_m is None else target[chosen_m] for target in targets],
            "target_u_list": [None if chosen_u is None else target[chosen_u] for target in targets],
            "padding_mask": padding,
            "features_pen": penalty,
        }

    def forward_features(self, source: Tensor) -> Tensor:
        """As fairseq's: (B, samples) -> (B, C, T)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.feature_grad_mult > 0):
            features = convolve(self.feature_extractor, source)
        return GradMultiply.apply(features, self.feature_grad_mult) if 0 < self.feature_grad_mult != 1 else features

    def get_targets(self, net_output: dict[str, Any], is_masked: bool = True) -> list[Tensor]:
        """The label of each predicted frame, as an index into its logits."""
        key = "target_m_list" if is_masked else "target_u_list"
        return [target.long() for target in net_output[key] if target is not None]

    def apply_mask(
        self, x: Tensor, padding_mask: Tensor | None, target_list: list[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """As fairseq's, from generators of our own: x (B, T, D) -> masked x, mask (B, T)."""
        time, channel = (self.mask_prob, self.mask_length), (self.mask_channel_prob, self.mask_channel_length)
        return apply_masks(x, padding_mask, self.mask_emb, time, channel, self._rngs)

    def _encode(
        self, source: Tensor, target_list: list[Tensor] | None, padding_mask: Tensor | None, mask: bool
    ) -> tuple[Tensor, list[Tensor], Tensor | None, Tensor, Tensor]:
        """Everything before the prediction head, as in fairseq's forward()."""
        features = self.forward_features(source)
        features, targets = self.forward_targets(features, target_list)
        penalty = features.float().pow(2).mean()
        features = self.layer_norm(features.transpose(1, 2))
        if padding_mask is not None:
            padding_mask = self.forward_padding_mask(features, padding_mask)
        if self.post_extract_proj is not None:
            features = self.post_extract_proj(features)
        x = self.dropout_input(features)
        mask_indices = None
        if mask:
            x, mask_indices = self.apply_mask(x, padding_mask, targets)
        if mask_indices is None:
            mask_indices = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        x, _ = self.encoder(x, padding_mask=padding_mask)
        return x, targets, padding_mask, mask_indices, penalty

    def _logits(self, x: Tensor, chosen: Tensor | None, label_sets: int) -> list[Tensor | None]:
        """Of the chosen frames the linear heads' output, or cosine similarities with every label over the temperature.

        fairseq's compute_nce builds (K + 5, frames, D) and compares; the same numbers are one product of unit vectors.
        """
        if chosen is None:
            return [None] * label_sets
        if self.linear_heads is not None:
            frames = x[chosen]
            return [head(frames) for head in self.linear_heads]
        projected = self.final_proj(x[chosen])
        parts = projected.chunk(label_sets, dim=-1) if self.untie_final_proj else [projected] * label_sets
        embeddings = self.label_embs_concat.split(self.num_classes, 0)
        return [
            F.normalize(part.float(), dim=-1, eps=1e-8)
            @ F.normalize(embedding.float(), dim=-1, eps=1e-8).t()
            / self.logit_temp
            for part, embedding in zip(parts, embeddings)
        ]
