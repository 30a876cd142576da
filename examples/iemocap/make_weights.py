"""Make tiny encoders with random weights in the layouts of the real ones, to try the whole of table1.yaml on a CPU.

  OUTPUT/hubert      a Hugging Face HuBERT of 3 layers
  OUTPUT/wav2vec2    a Hugging Face wav2vec 2.0 for pretraining (with its quantizer), of the same shape
  OUTPUT/km500.bin   scikit-learn's k-means of the HuBERT's frames, as the official one is stored

Their scores mean nothing. Needs the packages of the extra `test`.
"""

import json
from pathlib import Path

import click
import joblib
import numpy as np
import torch
import transformers
from sklearn.cluster import MiniBatchKMeans

SHAPE = dict(
    hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, conv_dim=[32] * 7,
    conv_kernel=[10, 3, 3, 3, 3, 2, 2], conv_stride=[5, 2, 2, 2, 2, 2, 2], num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4, feat_extract_norm="group", do_stable_layer_norm=False,
)  # fmt: skip
CLUSTERS = 20


def make_weights(output: Path) -> None:
    """Write the three into the folder `output`."""
    torch.manual_seed(1)
    hubert = transformers.HubertModel(transformers.HubertConfig(**SHAPE)).eval()
    quantizer = {"codevector_dim": 32, "proj_codevector_dim": 32, "num_codevectors_per_group": 16}
    wav2vec2 = transformers.Wav2Vec2ForPreTraining(transformers.Wav2Vec2Config(**SHAPE, **quantizer)).eval()
    for name, model in (("hubert", hubert), ("wav2vec2", wav2vec2)):
        model.save_pretrained(output / name)
        (output / name / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    noise = torch.randn(1, 16000 * 20, generator=torch.Generator().manual_seed(1)) * 0.1
    with torch.inference_mode():
        frames = hubert(noise, output_hidden_states=True).hidden_states[2][0].numpy().astype(np.float32)
    joblib.dump(MiniBatchKMeans(CLUSTERS, n_init=1, random_state=1).fit(frames), output / "km500.bin")


@click.command(epilog="Example: python examples/iemocap/make_weights.py work/debug/weights")
@click.argument("output", type=click.Path(path_type=Path))
def main(output: Path) -> None:
    """Write tiny encoders with random weights into the folder OUTPUT."""
    make_weights(output)


if __name__ == "__main__":
    main()
