"""FLEA's attention pooling for transformers: HuBERT, softmax(tanh(W x)) over frames, and a linear layer.

This file stands in a model folder that flea_fairseq exported, because transformers has no class with this pooling. It
imports torch and transformers only; `trust_remote_code=True` runs it. Licence: MIT.
"""

from dataclasses import dataclass

import torch
from transformers import HubertConfig, HubertModel, HubertPreTrainedModel
from transformers.utils.generic import ModelOutput


@dataclass
class FleaOutput(ModelOutput):
    """logits: (B, classes); attention: (B, T), the weight of each 20 ms frame, which sum to 1."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    attention: torch.Tensor | None = None


class FleaForSequenceClassification(HubertPreTrainedModel):
    """Emotion of an utterance. FLEA (2024), equations 2 and 3: a = softmax(tanh(W x)), z = sum_i a_i x_i."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__(config)
        self.hubert = HubertModel(config)
        self.pooling = torch.nn.Linear(config.hidden_size, 1, bias=False)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)  # type: ignore[arg-type]  # None in its type only
        if config.use_weighted_layer_sum:
            self.layer_weights = torch.nn.Parameter(torch.zeros(config.num_hidden_layers + 1))
        self.post_init()

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.LongTensor | None = None,
        labels: torch.Tensor | None = None,
        return_dict: bool | None = None,
        **unused: object,
    ) -> FleaOutput | tuple[torch.Tensor, ...]:
        """input_values: (B, samples) at 16 kHz; attention_mask: (B, samples), 0 on padding."""
        weighted = self.config.use_weighted_layer_sum
        encoded = self.hubert(input_values, attention_mask=attention_mask, output_hidden_states=weighted)
        x = encoded.last_hidden_state
        if weighted:
            weights = self.layer_weights.softmax(0)
            x = sum(weight * state for weight, state in zip(weights, encoded.hidden_states))
        scores = torch.tanh(self.pooling(x)).squeeze(-1)
        if attention_mask is not None:
            heard = self._get_feature_vector_attention_mask(x.shape[1], attention_mask)
            scores = scores.masked_fill(~heard.bool(), float("-inf"))
        attention = scores.softmax(-1)
        logits = self.classifier((attention.unsqueeze(-1) * x).sum(1))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        output = FleaOutput(loss=loss, logits=logits, attention=attention)
        return output if return_dict is not False else output.to_tuple()
