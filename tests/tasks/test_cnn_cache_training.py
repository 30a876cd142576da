"""Training on kept CNN output: bit for bit what it is without, alone, resumed, and in two processes."""

import pytest
import torch
from fairseq_runs import assert_equal_weights, finish, start, start_two, weights
from omegaconf import OmegaConf
from support import save_hugging_face

import flea_fairseq.tasks  # noqa: F401  registers the criterions
from flea_fairseq.errors import ExperimentError
from flea_fairseq.models.flea_classifier import FleaClassifierConfig
from flea_fairseq.tasks.speech_emotion import SpeechEmotionConfig, SpeechEmotionTask

RUN = [
    "optimization.max_epoch=2", "dataset.batch_size=5", "dataset.num_workers=0", "task.max_seconds=0.8",
    "common.log_interval=1", "optimization.lr=[0.001]", "model.encoder_layerdrop=0.3",
]  # fmt: skip


def prepared(fold_folder, tmp_path, init, cache: str = "", **changes):
    """The task with its splits, and the model."""
    options = dict(save_dir=str(tmp_path), train_subset="train", seed=1, max_seconds=0.8, cnn_cache=cache)
    task = SpeechEmotionTask.setup_task(SpeechEmotionConfig(data=str(fold_folder), **{**options, **changes}))
    torch.manual_seed(1)
    model = task.build_model(
        OmegaConf.structured(FleaClassifierConfig(_name="flea_classifier", init_checkpoint=str(init), seed=1))
    )
    task.load_dataset("train"), task.load_dataset("valid")
    return task, model


def passes(task, model, split: str, training: bool) -> list[torch.Tensor]:
    """The logits of an epoch's batches, and the gradients of the last."""
    model.train(training)
    model.set_num_updates(3)
    iterator = task.get_batch_iterator(task.datasets[split], max_sentences=5)
    seen = []
    for number, batch in enumerate(iterator.next_epoch_itr(shuffle=False)):
        torch.manual_seed(number)
        model.zero_grad()
        logits = model(**batch["net_input"])["logits"]
        logits.square().sum().backward()
        seen.append(logits)
    return seen + [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("layer_norm_mode", [False, True])
@pytest.mark.parametrize("split", ["train", "valid"])
def test_logits_and_gradients_are_the_same_bits(fold_folder, tmp_path, layer_norm_mode, split):
    init = save_hugging_face(tmp_path / "hf", "hubert", layer_norm_mode)
    options = dict(fold_folder=fold_folder, tmp_path=tmp_path, init=init, normalize=layer_norm_mode)
    plain, cached = prepared(**options), prepared(**options, cache=str(tmp_path / "cache"))
    assert plain[0].datasets[split][0]["source"].dim() == 1 and cached[0].datasets[split][0]["source"].dim() == 2
    lengths = plain[0].datasets[split].sizes
    assert len(set(lengths)) > 5  # so batches are padded
    for training in (False, True):
        without, using = passes(*plain, split, training), passes(*cached, split, training)
        assert len(using) > 40 and all(torch.equal(a, b) for a, b in zip(without, using, strict=True))
    evaluated = passes(*cached, split, False)
    assert not torch.equal(evaluated[0], using[0])  # the test can fail: dropout and masks act in training


def test_random_crops_are_refused_with_the_reason(fold_folder, tmp_path, hugging_face_folder):
    with pytest.raises(ExperimentError, match="task.crop=random: the first convolution's group norm runs over the"):
        prepared(fold_folder, tmp_path, hugging_face_folder, str(tmp_path / "cache"), crop="random")
    prepared(fold_folder, tmp_path, hugging_face_folder, crop="random")


def test_a_whole_training_ends_with_the_same_weights(fold_folder, hugging_face_folder, tmp_path):
    """The cached one is stopped, its files are damaged, and it goes on with loaders of its own."""
    run = [*RUN, f"model.init_checkpoint={hugging_face_folder}"]
    cache = f"task.cnn_cache={tmp_path / 'cache'}"
    plain = start("finetune", fold_folder, tmp_path / "plain", run)
    finish(plain, start("finetune", fold_folder, tmp_path / "cached", [*run, cache, "optimization.max_epoch=1"]))
    files = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert len(files) >= 24 + 13
    files[0].write_bytes(files[0].read_bytes()[:-8])
    finish(start("finetune", fold_folder, tmp_path / "cached", [*run, cache, "dataset.num_workers=1"]))
    log = (tmp_path / "cached/out.log").read_text()
    assert "Loaded checkpoint" in log and f"{files[0]}: " in log and "24 utterances take" in log
    assert_equal_weights(tmp_path / "plain/checkpoint_last.pt", tmp_path / "cached/checkpoint_last.pt")


def test_two_processes_fill_and_use_one_cache(fold_folder, hugging_face_folder, tmp_path):
    run = [*RUN, f"model.init_checkpoint={hugging_face_folder}", f"task.cnn_cache={tmp_path / 'cache'}"]
    finish(*start_two("finetune", fold_folder, tmp_path / "run", run))
    assert all(value.isfinite().all() for value in weights(tmp_path / "run/checkpoint_last.pt").values())
    names = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(names) >= 24 + 13 and all(name.endswith(".safetensors") and name[0] != "." for name in names)
