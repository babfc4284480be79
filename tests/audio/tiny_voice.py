"""A voice of random weights, small enough to run in milliseconds."""

import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from audio.onnx_weights import VoiceWeights

CHANNELS, HEADS, WINDOW, LATENT, SYMBOLS = 8, 2, 4, 6, 40
BINS = 4
UPS = ((16, 4, 8), (8, 2, 4))  # channels after, stride, kernel
DILATIONS = {3: (1, 2), 5: (2, 6)}


def tiny_weights(seed: int = 0) -> VoiceWeights:
    """Weights under training names, with strides and dilations."""
    maker = _Maker(seed)
    _text_encoder(maker)
    _durations(maker)
    _flow(maker)
    strides, dilations = _vocoder(maker)
    for depth, dilation in enumerate((1, 3)):
        for stack in ("dp.convs", *(f"dp.flows.{n}.convs" for n in (3, 5))):
            dilations[f"{stack}.convs_sep.{depth}"] = dilation
    return VoiceWeights(maker.tensors, strides, dilations, "tiny.onnx")


class _Maker:
    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.tensors: dict[str, torch.Tensor] = {}

    def make(self, name: str, *shape: int, scale: float = 0.3) -> None:
        self.tensors[name] = torch.randn(shape, generator=self.random) * scale

    def conv(self, name: str, out: int, inputs: int, taps: int) -> None:
        self.make(f"{name}.weight", out, inputs, taps)
        self.make(f"{name}.bias", out)

    def norm(self, name: str, channels: int) -> None:
        self.make(f"{name}.gamma", channels)
        self.make(f"{name}.beta", channels)


def _text_encoder(maker: _Maker) -> None:
    c = CHANNELS
    maker.make("enc_p.emb.weight", SYMBOLS, c)
    for i in range(2):
        attention = f"enc_p.encoder.attn_layers.{i}"
        for part in "qkvo":
            maker.conv(f"{attention}.conv_{part}", c, c, 1)
        for part in "kv":
            maker.make(f"{attention}.emb_rel_{part}", 1, 2 * WINDOW + 1, c // HEADS)
        maker.conv(f"enc_p.encoder.ffn_layers.{i}.conv_1", 2 * c, c, 3)
        maker.conv(f"enc_p.encoder.ffn_layers.{i}.conv_2", c, 2 * c, 3)
        maker.norm(f"enc_p.encoder.norm_layers_1.{i}", c)
        maker.norm(f"enc_p.encoder.norm_layers_2.{i}", c)
    maker.conv("enc_p.proj", 2 * LATENT, c, 1)


def _separable(maker: _Maker, name: str) -> None:
    for i in range(2):
        maker.conv(f"{name}.convs_sep.{i}", CHANNELS, 1, 3)
        maker.conv(f"{name}.convs_1x1.{i}", CHANNELS, CHANNELS, 1)
        maker.norm(f"{name}.norms_1.{i}", CHANNELS)
        maker.norm(f"{name}.norms_2.{i}", CHANNELS)


def _durations(maker: _Maker) -> None:
    maker.conv("dp.pre", CHANNELS, CHANNELS, 1)
    maker.conv("dp.proj", CHANNELS, CHANNELS, 1)
    _separable(maker, "dp.convs")
    for n in (3, 5):
        maker.conv(f"dp.flows.{n}.pre", CHANNELS, 1, 1)
        _separable(maker, f"dp.flows.{n}.convs")
        maker.conv(f"dp.flows.{n}.proj", 3 * BINS - 1, CHANNELS, 1)
    maker.make("dp.flows.0.m", 2, 1)
    maker.tensors["dp.flows.0.m"] -= 1.0  # about three frames for each phoneme
    maker.tensors["dp.flows.0.scale"] = torch.ones(2, 1)


def _flow(maker: _Maker) -> None:
    for n in (0, 2):
        name = f"flow.flows.{n}"
        maker.conv(f"{name}.pre", CHANNELS, LATENT // 2, 1)
        for i in range(2):
            maker.conv(f"{name}.enc.in_layers.{i}", 2 * CHANNELS, CHANNELS, 5)
            out = 2 * CHANNELS if i == 0 else CHANNELS
            maker.conv(f"{name}.enc.res_skip_layers.{i}", out, CHANNELS, 1)
        maker.conv(f"{name}.post", LATENT // 2, CHANNELS, 1)


def _vocoder(maker: _Maker) -> tuple[dict[str, int], dict[str, int]]:
    strides, dilations = {}, {}
    channels = 32
    maker.conv("dec.conv_pre", channels, LATENT, 7)
    for stage, (out, stride, kernel) in enumerate(UPS):
        maker.make(f"dec.ups.{stage}.weight", channels, out, kernel)
        maker.make(f"dec.ups.{stage}.bias", out)
        strides[f"dec.ups.{stage}"] = stride
        for block, (taps, spread) in enumerate(DILATIONS.items()):
            for i, dilation in enumerate(spread):
                name = f"dec.resblocks.{stage * len(DILATIONS) + block}.convs.{i}"
                maker.conv(name, out, out, taps)
                dilations[name] = dilation
        channels = out
    maker.make("dec.conv_post.weight", 1, channels, 7)
    return strides, dilations


def write_tiny_voice(folder: Path, seed: int = 0) -> Path:
    """Write the voice as Piper would: an .onnx whose initialisers are renamed, and its settings."""
    weights = tiny_weights(seed)
    nodes, initialisers = [], []
    for name, tensor in weights.tensors.items():
        stored = _exported_name(name)
        initialisers.append(numpy_helper.from_array(tensor.numpy(), stored))
        module = name.removesuffix(".weight")
        if name == "enc_p.emb.weight":
            gather = ["sid", "input"]
            nodes.append(helper.make_node("Gather", gather, ["e"], name="/enc_p/emb/Gather"))
        elif name.endswith(".weight"):
            kind = "ConvTranspose" if ".ups." in name else "Conv"
            inputs = ["input", stored]
            if f"{module}.bias" in weights.tensors:
                inputs.append(f"{module}.bias")
            nodes.append(
                helper.make_node(
                    kind,
                    inputs,
                    [f"y{len(nodes)}"],
                    strides=[weights.strides.get(module, 1)],
                    dilations=[weights.dilations.get(module, 1)],
                )
            )
    graph = helper.make_graph(
        nodes,
        "voice",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, None)],
        initialisers,
    )
    path = folder / "tiny.onnx"
    onnx.save(helper.make_model(graph), str(path))
    path.with_name("tiny.onnx.json").write_text(json.dumps(tiny_config()), encoding="utf-8")
    return path


def _exported_name(name: str) -> str:
    if name == "enc_p.emb.weight":
        return "sid"
    if name == "dp.flows.0.scale":
        return "/dp/flows.0/Exp_output_0"
    if name.startswith("flow.") and ".enc." in name and name.endswith(".weight"):
        return f"onnx::Conv_{abs(hash(name)) % 10**9}"
    return name


def tiny_config() -> dict[str, object]:
    """The settings file: the phonemes that English needs, within the tiny voice's symbols."""
    signs = "_^$ ,.?!abdefhijklmnoprstuvwzæŋɐɑɔəɚɛɜɡɪɹʃʊˈː"[:SYMBOLS]
    return {
        "audio": {"sample_rate": 8000, "quality": "tiny"},
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.6, "length_scale": 1.0, "noise_w": 0.7},
        "num_speakers": 1,
        "phoneme_id_map": {sign: [i] for i, sign in enumerate(signs)},
    }


def as_float64(array: torch.Tensor) -> np.ndarray:
    """For references."""
    return array.double().numpy()
