"""The encoder against transformers, torchaudio and fairseq with the same random weights, and padding against none."""

import numpy as np
import pytest
import torch
import transformers
from support import hugging_face_config, save_hugging_face
from torchaudio.models.wav2vec2.utils import import_huggingface_model

from flea_fairseq.data.audio import frame_count
from flea_fairseq.errors import CheckpointError
from flea_fairseq.models.checkpoints import build_encoder, load_encoder, read_checkpoint
from flea_fairseq.models.encoder import (
    BASE_CONV_LAYERS,
    Encoder,
    EncoderConfig,
    Regularisation,
    masked_group_norm,
    parse_conv_layers,
)


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
@pytest.mark.parametrize("layer_norm_mode", [False, True])
def test_every_layer_equals_transformers(tmp_path, kind, layer_norm_mode, real_waveform):
    folder = save_hugging_face(tmp_path / "model", kind, layer_norm_mode)
    peer = (transformers.HubertModel if kind == "hubert" else transformers.Wav2Vec2Model).from_pretrained(folder).eval()
    ours = load_encoder(folder)
    assert ours.normalize is layer_norm_mode
    source = real_waveform[None, :40000]
    with torch.no_grad():
        hidden = peer(source, output_hidden_states=True).hidden_states
        for layer in (1, 2, 3):
            x, frames = ours(source, layer=layer)
            assert frames.tolist() == [x.size(1)] == [frame_count(40000)]
            assert torch.allclose(x, hidden[layer], atol=2e-5)
        states, frames = ours.hidden_states(source)
        assert frames.tolist() == [frame_count(40000)] and len(states) == len(hidden) == 4
        for state, expected in zip(states, hidden):
            assert state.shape == expected.shape and torch.allclose(state, expected, atol=2e-5)


@pytest.mark.parametrize("samples", [40000, 40300])  # 124 and 125 frames: fairseq pads an odd number
def test_hidden_states_are_those_of_forward_also_with_the_norm_first(tmp_path, samples, real_waveform):
    config = hugging_face_config(layer_norm_mode=True, kind="wav2vec2")
    config.do_stable_layer_norm = True  # as in the large models
    torch.manual_seed(3)
    peer = transformers.Wav2Vec2Model(config).eval()
    peer.save_pretrained(tmp_path)
    encoder, source = load_encoder(tmp_path), real_waveform[None, :samples]
    with torch.inference_mode():
        states, _ = encoder.hidden_states(source)
        expected = peer(source, output_hidden_states=True)
        for state, hidden in zip(states[:-1], expected.hidden_states[:-1]):
            assert torch.allclose(state, hidden, atol=2e-5)
        assert torch.allclose(encoder.encoder.layer_norm(states[-1]), expected.last_hidden_state, atol=2e-5)
        for layer in (1, 2, 3):
            assert torch.equal(states[layer], encoder(source, layer=layer)[0])
    assert not any(layer._forward_pre_hooks for layer in encoder.encoder.layers)


def test_layers_above_the_last_that_is_asked_for_are_not_computed(hugging_face_folder, real_waveform):
    encoder, source = load_encoder(hugging_face_folder), real_waveform[None, :20000]
    with torch.inference_mode():
        every, _ = encoder.hidden_states(source)
        del encoder.encoder.layers[2]
        states, _ = encoder.hidden_states(source, last=2)
    assert len(states) == 3 and all(map(torch.equal, states, every[:3]))


def test_hidden_states_of_skipped_layers_repeat_and_gradients_reach_every_layer(hugging_face_folder):
    source = torch.randn(2, 12000)
    encoder = build_encoder(read_checkpoint(hugging_face_folder), Regularisation(encoder_layerdrop=0.5)).train()
    skipped = set()
    for seed in range(16):
        np.random.seed(seed)
        kept = np.random.random(3) > 0.5
        np.random.seed(seed)
        states, _ = encoder.hidden_states(source)
        assert [not torch.equal(a, b) for a, b in zip(states, states[1:])] == kept.tolist()
        np.random.seed(seed)
        assert torch.equal(states[-1], encoder(source)[0])
        skipped.add(tuple(kept))
    assert len(skipped) > 3 and (False, False, False) in skipped
    encoder.eval().hidden_states(source)[0][2].sum().backward()
    reached = [layer.fc1.weight.grad is not None for layer in encoder.encoder.layers]
    assert reached == [True, True, False]


def test_every_layer_equals_torchaudio(hugging_face_folder, real_waveform):
    peer = import_huggingface_model(transformers.HubertModel.from_pretrained(hugging_face_folder)).eval()
    source = real_waveform[None, :40000]
    with torch.no_grad():
        layers, _ = peer.extract_features(source)
        ours = load_encoder(hugging_face_folder)
        for layer, expected in enumerate(layers, start=1):
            assert torch.allclose(ours(source, layer=layer)[0], expected, atol=2e-5)


def test_a_padded_batch_equals_each_utterance_alone(hugging_face_folder, real_waveform):
    encoder = load_encoder(hugging_face_folder)
    parts = [real_waveform[:30000], real_waveform[30000:47777], real_waveform[60000 : 60400 + 320 * 3 + 7]]
    batch = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    with torch.no_grad():
        lengths = torch.tensor([len(part) for part in parts])
        x, frames = encoder(batch, lengths)
        for i, part in enumerate(parts):
            alone, _ = encoder(part[None])
            assert frames[i] == alone.size(1)
            assert torch.allclose(x[i, : frames[i]], alone[0], atol=1e-4)
            states = zip(encoder.hidden_states(batch, lengths)[0], encoder.hidden_states(part[None])[0])
            assert all(torch.allclose(ours[i, : frames[i]], one[0], atol=1e-4) for ours, one in states)
        wrong, _ = encoder(batch)  # the test can fail: without lengths the padding is heard
        assert (wrong[1, : frames[1]] - encoder(parts[1][None])[0][0]).abs().max() > 1e-2


def test_a_padded_batch_at_once_equals_one_by_one(hugging_face_folder, real_waveform):
    """As GPUs do it, with its gradients; a processor takes one after the other."""
    encoder, results = load_encoder(hugging_face_folder), []
    lengths = torch.tensor([30000, 17777, 12345])
    source = torch.nn.utils.rnn.pad_sequence([real_waveform[:n] for n in lengths], batch_first=True)
    for convolve in (encoder.convolve, lambda *batch: encoder._convolve_at_once(*batch).transpose(1, 2)):
        encoder.zero_grad()
        rows = [row[:count] for row, count in zip(convolve(source, lengths), encoder.frame_lengths(lengths))]
        sum(row.square().sum() for row in rows).backward()
        results.append([*rows, *[p.grad.clone() for p in encoder.feature_extractor.parameters()]])
    for one, other in zip(*results):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(one.detach().abs().max()))
    alone = encoder.feature_extractor(real_waveform[None, :17777])[0].T
    assert torch.allclose(results[0][1], alone, atol=1e-5)


def test_group_norm_without_padding_is_torchs_on_each_utterance():
    torch.manual_seed(0)
    x, norm, frames = torch.randn(3, 4, 50, requires_grad=True), torch.nn.GroupNorm(4, 4), [50, 31, 7]
    torch.nn.init.normal_(norm.weight)
    normalised = masked_group_norm(x, norm, torch.tensor(frames))
    weighted = torch.randn(3, 4, 50)
    (normalised * weighted).sum().backward()
    for row, n in enumerate(frames):
        alone = x.detach()[row : row + 1, :, :n].clone().requires_grad_()
        expected = norm(alone)
        (expected * weighted[row, :, :n]).sum().backward()
        assert torch.equal(normalised[row, :, :n], expected[0]) and not normalised[row, :, n:].any()
        assert torch.equal(x.grad[row, :, :n], alone.grad[0]) and not x.grad[row, :, n:].any()


def test_frame_lengths_are_those_of_the_convolutions():
    encoder = Encoder(EncoderConfig(encoder_layers=1, encoder_embed_dim=16, encoder_ffn_embed_dim=16,
                                    encoder_attention_heads=2, conv_pos_groups=4))  # fmt: skip
    for samples in (399, 400, 719, 720, 16000, 30001, 190800):
        expected = 0 if samples < 400 else encoder.feature_extractor(torch.zeros(1, samples)).size(2)
        assert encoder.frame_lengths(torch.tensor([samples])).tolist() == [expected] == [frame_count(samples)]


def test_a_pytorch_bin_folder_reads_as_the_safetensors_one(hugging_face_folder, tmp_path):
    model = transformers.HubertModel.from_pretrained(hugging_face_folder)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text((hugging_face_folder / "config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text((hugging_face_folder / "preprocessor_config.json").read_text())
    one, other = read_checkpoint(hugging_face_folder), read_checkpoint(tmp_path)
    assert one.encoder == other.encoder
    assert all(torch.equal(value, other.encoder_state[name]) for name, value in one.encoder_state.items())


def test_another_architecture_is_refused(tmp_path):
    config = hugging_face_config()
    transformers.HubertModel(config).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    with pytest.raises(CheckpointError, match="whisper"):
        read_checkpoint(tmp_path)


def test_conv_layers_are_parsed_and_never_evaluated():
    assert parse_conv_layers(BASE_CONV_LAYERS, "x") == tuple(eval(BASE_CONV_LAYERS))  # noqa: S307  the peer is fairseq's own reading
    for hostile in ("__import__('os').system('true')", "[(1,2,3)] * 10**9", "[(512,10)]", "[(0,1,1)]", "", "[a]", "3"):
        with pytest.raises(CheckpointError, match="conv_feature_layers"):
            parse_conv_layers(hostile, "x")


def test_weights_of_another_shape_are_refused(hugging_face_folder):
    checkpoint = read_checkpoint(hugging_face_folder)
    checkpoint.encoder_state["layer_norm.weight"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match="layer_norm.weight"):
        build_encoder(checkpoint)
