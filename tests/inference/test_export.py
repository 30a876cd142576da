"""Exports run by the tools that they are for, in processes where flea_fairseq cannot be imported."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch

from flea_fairseq.errors import CheckpointError, ExperimentError
from flea_fairseq.evaluation.calibrate import calibrate
from flea_fairseq.inference.export import export
from flea_fairseq.models.checkpoints import load_classifier

LENGTHS = (0.4, 0.93, 2.3)


@pytest.fixture(scope="module", params=["attention", "mean"])
def model(request, save_classifier, fold_folder, tmp_path_factory):
    """A calibrated classifier of each pooling that a Hugging Face folder holds."""
    path = save_classifier(tmp_path_factory.mktemp("export") / "model.pt", pooling=request.param)
    calibrate(path, fold_folder / "valid.tsv", path)
    return path


def expected(model, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits over the temperature, and attention."""
    loaded = load_classifier(model)
    with torch.no_grad():
        result = loaded(torch.from_numpy(samples)[None])
    return result["logits"][0].numpy() / loaded.temperature, result["attention"][0].numpy()


def parts(speech) -> list[np.ndarray]:
    return [speech[: int(seconds * 16000)] for seconds in LENGTHS]


def elsewhere(code: str, folder, *words) -> list:
    """Run code in a process that does not find flea_fairseq; what it printed, as JSON."""
    program = "import sys\nsys.modules['flea_fairseq'] = None\n" + textwrap.dedent(code)
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_transformers_loads_the_folder(model, speech, wav, tmp_path):
    said = export(model, "hf", tmp_path / "hub", wav)
    assert "hub: at most " in said and str(wav) in said
    attention = load_classifier(model).pooling_name == "attention"
    for number, part in enumerate(parts(speech)):
        np.save(tmp_path / f"{number}.npy", part)
    found = elsewhere(
        """
        import json, numpy, torch, transformers
        folder, trust, count = sys.argv[1], bool(int(sys.argv[2])), int(sys.argv[3])
        extract = transformers.AutoFeatureExtractor.from_pretrained(folder)
        model = transformers.AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=trust).eval()
        rows = []
        for number in range(count):
            inputs = extract(numpy.load(f"{number}.npy"), sampling_rate=16000, return_tensors="pt")
            with torch.no_grad():
                rows.append(model(**inputs).logits[0].tolist())
        print(json.dumps([rows, model.config.id2label, type(model).__name__]))
        """,
        tmp_path, tmp_path / "hub", int(attention), len(LENGTHS),
    )  # fmt: skip
    for part, logits in zip(parts(speech), found[0]):
        assert np.allclose(logits, expected(model, part)[0], atol=1e-4)
    assert list(found[1].values()) == ["angry", "happy", "neutral", "sad"]
    stock = "HubertForSequenceClassification"
    assert found[2] == ("FleaForSequenceClassification" if attention else stock)
    assert (tmp_path / "hub/modeling_flea.py").exists() == attention
    card = (tmp_path / "hub/README.md").read_text()
    assert "normalises over the whole input" in card and "validation" in card and ("stock" in card) != attention


def test_padding_in_a_batch_is_not_heard_by_the_attention(model, speech, tmp_path):
    """The one place where our code file has arithmetic of its own: layer-norm encoders may be given padded batches."""
    from flea_fairseq.inference.export_hf import to_transformers

    made = to_transformers(load_classifier(model))
    if not hasattr(made, "pooling"):
        pytest.skip("the stock class has no attention")
    batch = torch.zeros(2, 16000)
    batch[0], batch[1, :8000] = torch.from_numpy(speech[:16000]), torch.from_numpy(speech[:8000])
    mask = torch.ones(2, 16000, dtype=torch.long)
    mask[1, 8000:] = 0
    with torch.no_grad():
        attention = made(batch, attention_mask=mask).attention
    assert (
        torch.allclose(attention.sum(1), torch.ones(2))
        and (attention[1, 24:] == 0).all()
        and (attention[1, :24] > 0).all()
    )


def test_onnxruntime_runs_lengths_and_batches_never_exported(model, speech, wav, tmp_path):
    said = export(model, "onnx", tmp_path / "model.onnx", wav)
    assert "at most" in said
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for part in parts(speech):
        logits, attention = session.run(None, {"waveform": part[None]})
        wanted = expected(model, part)
        assert np.allclose(logits[0], wanted[0], atol=1e-4) and np.allclose(attention[0], wanted[1], atol=1e-5)
    three = np.stack([speech[:9000], speech[9000:18000], -0.3 * speech[:9000]])
    logits, attention = session.run(None, {"waveform": three})
    for row, part in enumerate(three):
        wanted = expected(model, part)
        assert np.allclose(logits[row], wanted[0], atol=1e-4) and np.allclose(attention[row], wanted[1], atol=1e-5)
    known = {prop.key: prop.value for prop in onnx.load(str(tmp_path / "model.onnx")).metadata_props}
    assert json.loads(known["classes"]) == ["angry", "happy", "neutral", "sad"] and known["sample_rate"] == "16000"


def test_fairseq_loads_the_encoder_as_its_own(model, speech, wav, tmp_path):
    """As examples/hubert/simple_kmeans/dump_hubert_feature.py does it, and s3prl's loader of fairseq models."""
    export(model, "fairseq", tmp_path / "encoder.pt", wav)
    np.save(tmp_path / "0.npy", speech)
    found = elsewhere(
        """
        import json, logging, numpy, torch, fairseq
        from fairseq import checkpoint_utils
        # what the file holds beside tensors: fairseq's own classes, which torch's safe loader must be told of
        models, config, task = checkpoint_utils.load_model_ensemble_and_task([sys.argv[1]])
        model = models[0].eval()
        source = torch.from_numpy(numpy.load("0.npy"))[None]
        with torch.no_grad():
            frames, _ = model.extract_features(source=source, padding_mask=None, mask=False, output_layer=1)
        print(json.dumps([frames[0].tolist(), type(model).__name__, task.cfg.normalize]))
        """,
        tmp_path, tmp_path / "encoder.pt",
    )  # fmt: skip
    with torch.no_grad():
        wanted = load_classifier(model).encoder(torch.from_numpy(speech)[None])[0][0].numpy()
    assert np.allclose(found[0], wanted, atol=1e-4) and found[1:] == ["HubertModel", False]


def test_what_cannot_be_held_is_refused_and_leaves_nothing(save_classifier, model, tmp_path):
    other = save_classifier(tmp_path / "statistics.pt", pooling="attentive_statistics")
    local = save_classifier(tmp_path / "local.pt", context=1.0)
    for target in ("hf", "onnx"):
        with pytest.raises(CheckpointError, match="pooling attentive_statistics .* cannot be exported"):
            export(other, target, tmp_path / "out")
        with pytest.raises(CheckpointError, match=r"hears little at a time \(model.context\) cannot be exported"):
            export(local, target, tmp_path / "out")
    (tmp_path / "there").mkdir()
    with pytest.raises(ExperimentError, match="there: is there already"):
        export(model, "hf", tmp_path / "there")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local.pt", "statistics.pt", "there"]


def test_an_export_that_differs_is_not_written(model, monkeypatch, tmp_path):
    from flea_fairseq.inference import export_onnx

    original = export_onnx.to_transformers

    def broken(loaded):
        made = original(loaded)
        with torch.no_grad():
            made.classifier.bias += 0.001
        return made

    monkeypatch.setattr(export_onnx, "to_transformers", broken)
    with pytest.raises(CheckpointError, match="gives values 1.0e-03 away"):
        export(model, "onnx", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_normalising_model_normalises_inside(save_classifier, speech, tmp_path):
    path = save_classifier(tmp_path / "model.pt", normalize=True)
    for target, name in (("hf", "hub"), ("onnx", "m.onnx"), ("fairseq", "m2.pt")):
        assert "at most" in export(path, target, tmp_path / name)
    soundfile.write(tmp_path / "quiet.wav", 0.01 * speech, 16000, subtype="FLOAT")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    loud, quiet = (session.run(None, {"waveform": gain * speech[None]})[0] for gain in (1.0, np.float32(0.1)))
    assert np.allclose(loud, quiet, atol=1e-2)
