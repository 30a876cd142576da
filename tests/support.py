"""What tests of several folders share: names, a tiny shape, and models as transformers saves them."""

import json
from pathlib import Path

import numpy as np
import soundfile
import torch

CLASSES = ("angry", "happy", "neutral", "sad")
TINY_CONV = [(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32, 2, 2)] * 2


class Hostile:
    """What unpickling runs is in `call`: a function, and a tuple of its arguments."""

    def __init__(self, *call) -> None:
        self.call = call

    def __reduce__(self):
        return self.call


def hugging_face_config(layer_norm_mode: bool = False, kind: str = "hubert"):
    """transformers' config of a tiny encoder; dropouts off."""
    import transformers

    config = transformers.HubertConfig if kind == "hubert" else transformers.Wav2Vec2Config
    return config(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128,
        conv_dim=[c for c, _, _ in TINY_CONV], conv_kernel=[k for _, k, _ in TINY_CONV],
        conv_stride=[s for _, _, s in TINY_CONV], num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer" if layer_norm_mode else "group", conv_bias=layer_norm_mode,
        do_stable_layer_norm=False, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
        feat_proj_dropout=0.0, layerdrop=0.0,
    )  # fmt: skip


def save_hugging_face(folder: Path, kind: str, layer_norm_mode: bool) -> Path:
    import transformers

    torch.manual_seed(3)
    model_class = transformers.HubertModel if kind == "hubert" else transformers.Wav2Vec2Model
    model_class(hugging_face_config(layer_norm_mode, kind)).eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": layer_norm_mode}))
    return folder


EVALUATION_HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
EVALUATORS = (
    "C-E2:\tNeutral;\t()\n"
    "C-E3:\tHappiness; Excited;\t(caf\xe9, [1.0 - 2.0])\n"
    "C-F1:\tNeutral;\t()\n"
    "A-E3:\tval 3; act 2; dom  2;\t()\n"
    "A-F1:\tval 3; act 2; dom  1;\t()\n\n"
)


def dialog(*turns: tuple[str, str]) -> str:
    """An evaluation file's text: (turn, emotion code) with evaluators' lines between."""
    return EVALUATION_HEADER + "".join(
        f"[{n}.2901 - {n}.8357]\t{turn}\t{code}\t[2.5000, 2.5000, 2.5000]\n{EVALUATORS}"
        for n, (turn, code) in enumerate(turns)
    )


def write_dialog(root: Path, session: int, name: str, text: str, newline: str = "\n") -> Path:
    path = root / f"Session{session}/dialog/EmoEvaluation/{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.replace("\n", newline).encode("latin-1"))
    return path


def wav(root: Path, session: int, turn: str) -> Path:
    return root / f"Session{session}/sentences/wav/{turn.rpartition('_')[0]}/{turn}.wav"


def write_full_iemocap(root: Path) -> Path:
    """A tree with the release's 5531 utterances a class and a session, others to be left out; 45 ms of noise each."""
    codes = ["neu"] * 1708 + ["ang"] * 1103 + ["sad"] * 1084 + ["exc"] * 1041 + ["hap"] * 595
    sessions = [1] * 1085 + [2] * 1023 + [3] * 1151 + [4] * 1031 + [5] * 1241
    rng = np.random.default_rng(1)
    codes = [codes[i] for i in rng.permutation(len(codes))]  # every speaker shows every emotion
    turns = {session: [(f"Ses0{session}F_impro01_M9{n:03d}", "fru") for n in range(100)] for session in range(1, 6)}
    for number, (code, session) in enumerate(zip(codes, sessions, strict=True)):
        turn = f"Ses0{session}F_impro01_{'FM'[number % 2]}{number:04d}"
        turns[session].append((turn, code))
        path = wav(root, session, turn)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.integers(-9000, 9000, 720).astype(np.int16), 16000)
    for session, members in turns.items():
        write_dialog(root, session, f"Ses0{session}F_impro01", dialog(*members))
    return root


def write_features(folder, split, shard, shards, lengths, utterances, source) -> Path:
    """Write one shard of feature files, utterance by utterance; gives the path of its `.npy`."""
    from flea_fairseq.clustering.features import writing_features

    with writing_features(folder, split, shard, shards, lengths, source) as write:
        for frames in utterances:
            write(frames)
    return Path(folder) / f"{split}_{shard}_{shards}.npy"
