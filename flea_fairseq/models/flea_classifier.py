"""`flea_classifier`: an encoder, a pooling, and a linear layer (phases 1b and 3)."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, List

import torch
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.models import register_model
from fairseq.tasks import FairseqTask
from omegaconf import II, open_dict
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from flea_fairseq.data.audio import HOP_SAMPLES, SAMPLE_RATE
from flea_fairseq.data.manifest import text_problem
from flea_fairseq.errors import CheckpointError, ExperimentError
from flea_fairseq.models.checkpoints import Checkpoint, build_encoder, load_state, read_checkpoint
from flea_fairseq.models.encoder import Encoder, Regularisation, layer_normalised, padding_mask
from flea_fairseq.models.masking import apply_masks
from flea_fairseq.models.pooling import POOLINGS, check_frame_logits
from flea_fairseq.models.seeding import SeededForward
from flea_fairseq.ranges import CONTEXT, check_range

ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU}
LAYERS = ("last", "weighted")
CHOICES = {  # what a checkpoint may say, as text
    "pooling": POOLINGS,
    "layers": LAYERS,
    "head_activation": ACTIVATIONS,
    "freeze_encoder": ("False", "True"),
}


@dataclass
class FleaClassifierConfig(FairseqDataclass):
    init_checkpoint: str = field(
        default="", metadata={"help": "encoder to start from: fairseq .pt (also our own) or Hugging Face folder"}
    )
    pooling: ChoiceEnum(list(POOLINGS)) = field(default="attention", metadata={"help": "from frames to an utterance"})
    layers: ChoiceEnum(list(LAYERS)) = field(
        default="last", metadata={"help": "what is pooled: the last layer, or a learned weighted sum of all layers"}
    )
    context: float = field(
        default=0.0,
        metadata={"help": "seconds of speech of which the transformer may know at a frame (0: the whole utterance)"},
    )
    head_activation: ChoiceEnum(list(ACTIVATIONS)) = field(
        default="none", metadata={"help": "on the pooled vector, before the linear layer"}
    )
    freeze_cnn: bool = field(default=True, metadata={"help": "keep the convolutions as they are"})
    freeze_encoder_updates: int = field(default=0, metadata={"help": "train only pooling and head for so many updates"})
    freeze_encoder: bool = field(default=False, metadata={"help": "keep all of the encoder, without dropout or masks"})
    mask_prob: float = field(default=0.08, metadata={"help": "share of frames masked while training"})
    mask_length: int = field(default=10, metadata={"help": "frames a mask"})
    mask_channel_prob: float = field(default=0.0, metadata={"help": "share of channels masked while training"})
    mask_channel_length: int = field(default=64, metadata={"help": "channels a mask"})
    dropout: float = field(default=0.1, metadata={"help": "in the transformer"})
    attention_dropout: float = field(default=0.1, metadata={"help": "on attention weights"})
    activation_dropout: float = field(default=0.0, metadata={"help": "after the activation in the transformer"})
    encoder_layerdrop: float = field(default=0.0, metadata={"help": "probability of skipping a transformer layer"})
    dropout_input: float = field(default=0.0, metadata={"help": "before the transformer"})
    pooling_dropout: float = field(default=0.1, metadata={"help": "on the frames before pooling"})
    encoder_config: str = field(
        default="", metadata={"help": "filled in: the encoder's shape, so that a checkpoint needs no other file"}
    )
    classes: List[str] = field(default_factory=list, metadata={"help": "filled in from the task's dict.emo.txt"})
    seed: int = II("common.seed")


def context_frames(seconds: float) -> int:
    """Seconds of context as frames, 0 for the whole utterance. Raises ExperimentError for what is no such time."""
    check_range(CONTEXT, seconds)
    return round(seconds * SAMPLE_RATE / HOP_SAMPLES)


@register_model("flea_classifier", dataclass=FleaClassifierConfig)
class FleaClassifier(SeededForward):
    """Encoder, pooling, linear head; frame attention weights come with every forward pass.

    With freeze_encoder the encoder is in evaluation mode even in training: its output is that of the checkpoint it
    came from, without dropout, LayerDrop and masks, whose learned embedding is a part of the encoder.
    """

    def __init__(self, encoder: Encoder, cfg: FleaClassifierConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.seed = cfg.seed
        self.classes = tuple(cfg.classes)
        self.freeze_encoder_updates = cfg.freeze_encoder_updates
        self.mask = (cfg.mask_prob, cfg.mask_length)
        self.mask_channel = (cfg.mask_channel_prob, cfg.mask_channel_length)
        if cfg.freeze_cnn:
            self.encoder.freeze_cnn()
        self.encoder.mask_emb.requires_grad_(cfg.mask_prob > 0)
        self.freeze_encoder = cfg.freeze_encoder
        if cfg.freeze_encoder:
            self.encoder.requires_grad_(False)
        self.context = context_frames(cfg.context)
        weighted = str(cfg.layers) == "weighted"
        self.layer_logits = nn.Parameter(torch.zeros(encoder.num_layers + 1)) if weighted else None
        self.dropout = nn.Dropout(cfg.pooling_dropout)
        self.pooling_name = str(cfg.pooling)
        self.pooling = POOLINGS[self.pooling_name](encoder.dim)
        self.activation = ACTIVATIONS[str(cfg.head_activation)]()
        self.head = nn.Linear(self.pooling.out_dim, len(self.classes))
        self.facts: dict[str, Any] = {}

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax, as `flea calibrate` found it; 1 before."""
        return self.facts.get("temperature", 1.0)

    @property
    def normalize(self) -> bool:
        """Whether waveforms must have zero mean and unit variance."""
        return self.encoder.normalize

    @classmethod
    def build_model(cls, cfg: FleaClassifierConfig, task: FairseqTask) -> "FleaClassifier":
        """Called by fairseq. The task copies `stored_config` into fairseq's config, for later loads."""
        if not cfg.init_checkpoint:
            raise CheckpointError("model.init_checkpoint is empty: name the encoder to start from")
        checkpoint = read_checkpoint(cfg.init_checkpoint)
        with open_dict(cfg):
            cfg.classes = list(task.classes)
        return cls(build_encoder(checkpoint, regularisation(cfg)), cfg)

    def stored_config(self) -> dict[str, Any]:
        """What a checkpoint's config must hold so that it can be loaded without any other file."""
        return {"encoder_config": json.dumps(self.encoder.config.to_dict()), "classes": list(self.classes)}

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> "FleaClassifier":
        """The model of a checkpoint that fairseq wrote, without opening `init_checkpoint`."""
        known = FleaClassifierConfig.__dataclass_fields__
        values = {key: value for key, value in checkpoint.model.items() if key in known and key != "seed"}
        cfg = FleaClassifierConfig(**values, seed=1)
        for key, choices in CHOICES.items():
            if str(getattr(cfg, key)) not in choices:
                raise CheckpointError(f"{checkpoint.path}: {key} {getattr(cfg, key)!r} is not one of {sorted(choices)}")
        try:
            context_frames(cfg.context)
        except ExperimentError as error:
            raise CheckpointError(f"{checkpoint.path}: {error}") from None
        for name in cfg.classes:
            if problem := text_problem(name) if isinstance(name, str) else "is no text":
                raise CheckpointError(f"{checkpoint.path}: the name of class {name!r} {problem}")
        model = cls(Encoder(checkpoint.encoder), cfg)
        state = {f"encoder.{name}": value for name, value in checkpoint.encoder_state.items()}
        load_state(model, {**state, **checkpoint.head_state}, checkpoint.path)
        model.facts = checkpoint.facts
        return model

    def train(self, mode: bool = True) -> "FleaClassifier":
        """As torch's, but a frozen encoder stays in evaluation mode; fairseq calls this before every epoch."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self

    def forward(
        self, source: Tensor, lengths: Tensor | None = None, utterances: Tensor | None = None
    ) -> dict[str, Tensor]:
        """source: (B, samples), padded at the end, or the encoder's CNN output of them (B, T, C); lengths: (B,) true
        samples (None: all whole, which only waveforms can be); utterances: (B,) numbers that masks are drawn from.

        Returns logits (B, classes), attention (B, T) with 0 on padding, x (B, T, D), frames (B,); x is what is pooled:
        the last layer, or with layers=weighted the weighted sum.
        """

        def mask(x: Tensor, padding: Tensor | None) -> Tensor:
            rngs = self.generators(len(x), utterances)
            return apply_masks(x, padding, self.encoder.mask_emb, self.mask, self.mask_channel, rngs)[0]

        frozen = self.freeze_encoder or (self.training and self._update < self.freeze_encoder_updates)
        encode: Callable[..., Any] = self.encoder if self.layer_logits is None else self.encoder.hidden_states
        masked = mask if self.training and not self.freeze_encoder else None
        with self.seeded(), torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            x, frames = encode(source, lengths, mask=masked, context=self.context)
        if self.layer_logits is not None:
            first, *rest = (weight * state for weight, state in zip(self.layer_logits.softmax(0), x))
            x = sum(rest, first)
        pooled, attention = self.pooling.classify(self.dropout(x), padding_mask(frames, x.size(1)), self.judge)
        return {"logits": pooled, "attention": attention, "x": x, "frames": frames}

    def judge(self, vectors: Tensor) -> Tensor:
        """What the head says of vectors of utterances or frames: (..., D) -> (..., classes)."""
        return self.head(self.activation(vectors))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities, in double precision: (..., classes) -> (..., classes)."""
        return (logits.double() / self.temperature).softmax(-1)

    @torch.no_grad()
    def listen(self, waveforms: Sequence[Tensor]) -> dict[str, Tensor]:
        """`forward` on whole waveforms, (samples,) float32 at 16 kHz each, normalised if the model wants it."""
        device = self.head.weight.device
        wanted = [layer_normalised(waveform) if self.normalize else waveform for waveform in waveforms]
        lengths = torch.tensor([len(waveform) for waveform in wanted], device=device)
        return self(pad_sequence(wanted, batch_first=True).to(device), lengths)

    def frame_logits(self, x: Tensor) -> Tensor:
        """What the head says of each frame, as of an utterance of this frame alone: (B, T, D) -> (B, T, classes).

        Raises ExperimentError for a pooling that has none.
        """
        check_frame_logits(self.pooling_name)
        return self.judge(x)


def regularisation(cfg: FleaClassifierConfig) -> Regularisation:
    """The encoder's part of the config."""
    return Regularisation(**{name: getattr(cfg, name) for name in asdict(Regularisation())})
