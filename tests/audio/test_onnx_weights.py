"""The weights of a voice come out of its ONNX file under their training names."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from audio.errors import AudioError
from audio.onnx_weights import VoiceWeights, read_voice_weights
from tests.audio.tiny_voice import tiny_weights, write_tiny_voice


def test_renamed_initialisers_get_their_training_names(tmp_path: Path) -> None:
    wanted = tiny_weights()
    got = read_voice_weights(write_tiny_voice(tmp_path))
    assert got.tensors.keys() == wanted.tensors.keys()
    for name, tensor in wanted.tensors.items():
        torch.testing.assert_close(got.tensors[name], tensor, rtol=0, atol=0)
    assert {k: v for k, v in got.strides.items() if v > 1} == wanted.strides
    spread = {k: v for k, v in wanted.dilations.items() if v > 1}
    assert {k: v for k, v in got.dilations.items() if v > 1} == spread


def test_log_scale_of_an_unfolded_export_is_understood(tmp_path: Path) -> None:
    path = write_tiny_voice(tmp_path)
    model = onnx.load(str(path))
    for item in model.graph.initializer:
        if item.name == "/dp/flows.0/Exp_output_0":
            item.CopyFrom(
                onnx.numpy_helper.from_array(torch.full((2, 1), 0.5).numpy(), "dp.flows.0.logs")
            )
    onnx.save(model, str(path))
    scale = read_voice_weights(path).tensors["dp.flows.0.scale"]
    torch.testing.assert_close(scale, torch.full((2, 1), 0.6065307))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="nowhere.onnx does not exist"):
        read_voice_weights(tmp_path / "nowhere.onnx")


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "voice.onnx"
    path.write_text("not a model at all, just some text\n" * 20)
    with pytest.raises(AudioError, match="voice.onnx"):
        read_voice_weights(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_tiny_voice(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(AudioError, match="not a readable ONNX file"):
        read_voice_weights(path)


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out])
    onnx.save(helper.make_model(graph), str(tmp_path / "empty.onnx"))
    with pytest.raises(AudioError, match="holds no weights"):
        read_voice_weights(tmp_path / "empty.onnx")


def test_take_names_what_is_absent_and_what_is_misshapen() -> None:
    weights = VoiceWeights({"a": torch.zeros(2, 3)}, source="v.onnx")
    assert weights.take("a", 2, None).shape == (2, 3)
    with pytest.raises(AudioError, match="v.onnx is not a VITS voice.*lacks the weight b"):
        weights.take("b")
    with pytest.raises(AudioError, match="weight a should have the shape 2x4 but has 2x3"):
        weights.take("a", 2, 4)
    with pytest.raises(AudioError, match="shape 2 but has 2x3"):
        weights.take("a", 2)


def test_count_stops_at_the_first_gap() -> None:
    weights = VoiceWeights({f"x.{i}": torch.zeros(1) for i in (0, 1, 3)})
    assert weights.count("x.{}") == 2
    assert weights.count("y.{}") == 0
