"""From phoneme ids to latents: text encoder, stochastic durations and the inverse prior flow.

Source: Kim, Kong and Son 2021, "Conditional Variational Autoencoder with Adversarial Learning
for End-to-End Text-to-Speech", in the form that Piper trains and exports.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audio.errors import AudioError
from audio.onnx_weights import VoiceWeights
from audio.vits_layers import Conv, Coupling, EncoderBlock, SeparableStack, SplineFlow

_MAX_FRAMES_PER_ID = 200  # 2.3 s at 22,050 Hz: a runaway duration must not fill the memory
# With a smaller factor nearly every phoneme lasts one frame, which none is left without. The factor
# is found in so many halvings.
_LEAST_FACTOR, _PACE_STEPS = 0.25, 24
_TINY = 1e-6  # frames: lengths may all be nothing


@dataclass(frozen=True)
class Latents:
    """What the vocoder turns into sound.

    z: (1, c, frames) float32, a view of channels-last memory; durations: for each phoneme id the
    frames that it lasts.
    """

    z: Tensor
    durations: tuple[int, ...]

    def trimmed(self, *, start: bool, end: bool) -> Latents:
        """Without the frames of the first phoneme id, of the last one, or both."""
        head = self.durations[0] if start else 0
        tail = self.durations[-1] if end else 0
        inner = self.durations[start : len(self.durations) - end]
        kept = (*start * (0,), *inner, *end * (0,))
        return Latents(self.z[:, :, head : self.z.shape[2] - tail], kept)


class FlowStep:
    """One coupling of the prior flow, with the flip of the channels before it.

    It looks only `margin` frames to either side, so the flow can go through latents in parts.
    """

    stride = 1

    def __init__(self, coupling: Coupling) -> None:
        self._coupling = coupling
        self.margin = sum(gate.padding for gate in coupling.enc.gates if isinstance(gate, Conv))

    def __call__(self, x: Tensor) -> Tensor:
        """(t, c) -> (t, c)."""
        return self._coupling.inverse(x.flip(1))


@dataclass(frozen=True)
class Sampling:
    """How much chance goes into a reading.

    noise_scale: of the latents; noise_w: of the durations; length_scale: > 1 is slower, by less
    than it says, as each phoneme lasts whole frames; pace: the whole lasts 1/pace of that.
    """

    noise_scale: float = 0.667
    noise_w: float = 0.8
    length_scale: float = 1.0
    pace: float = 1.0


class TextEncoder(nn.Module):
    """Phoneme ids to hidden states and to the prior's mean and log-deviation."""

    embedding: Tensor

    def __init__(self, weights: VoiceWeights) -> None:
        super().__init__()
        self.register_buffer("embedding", weights.take("enc_p.emb.weight", None, None))
        channels = self.embedding.shape[1]
        depth = weights.count("enc_p.encoder.attn_layers.{}.conv_q.weight")
        self.blocks = nn.ModuleList(
            EncoderBlock(weights, "enc_p.encoder", i, channels) for i in range(depth)
        )
        self.proj = Conv(weights, "enc_p.proj", None, channels, 1)
        self.scale = math.sqrt(channels)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """ids (t,) -> hidden (t, c), mean and log-deviation (t, latent)."""
        x = self.embedding[ids] * self.scale
        for block in self.blocks:
            x = block(x)
        mean, log_deviation = self.proj(x).chunk(2, 1)
        return x, mean, log_deviation


class DurationPredictor(nn.Module):
    """Draws how long each phoneme lasts by running a normalising flow backwards."""

    shift: Tensor
    shrink: Tensor

    def __init__(self, weights: VoiceWeights) -> None:
        super().__init__()
        self.pre = Conv(weights, "dp.pre", None, None, 1)
        channels = self.pre.out
        self.convs = SeparableStack(weights, "dp.convs", channels)
        self.proj = Conv(weights, "dp.proj", channels, channels, 1)
        # Flows 1, 3, 5, ... are splines with flips between them; training's flow 1 is left out
        # when sampling, as in the paper's code.
        numbers = sorted(
            (n for n in range(3, 99, 2) if f"dp.flows.{n}.pre.weight" in weights.tensors),
            reverse=True,
        )
        self._flows = [SplineFlow(weights, f"dp.flows.{n}", channels) for n in numbers]
        self.flows = nn.ModuleList(self._flows)
        self.register_buffer("shift", weights.take("dp.flows.0.m", 2, 1)[:, 0])
        self.register_buffer("shrink", weights.take("dp.flows.0.scale", 2, 1)[:, 0])

    def forward(self, hidden: Tensor, noise: Tensor) -> Tensor:
        """hidden (t, c), noise (t, 2) -> log durations in frames (t,)."""
        condition = self.proj(self.convs(self.pre(hidden)))
        z = noise
        for flow in self._flows:
            z = flow.inverse(z.flip(1), condition)
        z = (z.flip(1) - self.shift) * self.shrink
        return z[:, 0]


class Vits(nn.Module):
    """Phoneme ids to latents; weights only, so any number of threads may read it."""

    def __init__(self, weights: VoiceWeights) -> None:
        """Raises AudioError if a weight is absent or has an unexpected shape."""
        super().__init__()
        _refuse_speakers(weights)
        self.encoder = TextEncoder(weights)
        self.durations = DurationPredictor(weights)
        self.latent = self.encoder.proj.out // 2
        numbers = [n for n in range(0, 99, 2) if f"flow.flows.{n}.pre.weight" in weights.tensors]
        if not numbers or not self.encoder.blocks or not self.durations.flows:
            raise AudioError(
                f"{weights.source} lacks the flow or encoder layers of a VITS voice; choose a "
                f"single-speaker Piper voice (.onnx)."
            )
        flows = [Coupling(weights, f"flow.flows.{n}", self.latent) for n in reversed(numbers)]
        self.flows = nn.ModuleList(flows)
        #: What turns a prior, (frames, c), into the latents of the vocoder, one after the other.
        self.flow_steps = [FlowStep(coupling) for coupling in flows]
        self.eval()

    @property
    def symbols(self) -> int:
        """How many phoneme ids the voice knows."""
        return int(self.encoder.embedding.shape[0])

    @torch.inference_mode()
    def latents(
        self, ids: Sequence[int], sampling: Sampling, generator: torch.Generator | None = None
    ) -> Latents:
        """Draw a reading of the phoneme ids, ready for the vocoder; as `prior`, and the flow."""
        drawn = self.prior(ids, sampling, generator)
        z = drawn.z[0].mT
        for step in self.flow_steps:
            z = step(z)
        return Latents(z.mT[None], drawn.durations)

    @torch.inference_mode()
    def prior(
        self, ids: Sequence[int], sampling: Sampling, generator: torch.Generator | None = None
    ) -> Latents:
        """Draw a reading of the phoneme ids before the flow, which may go through it in parts.

        Args:
            ids: at least one, each below `symbols`.
            sampling: noise and pace.
            generator: a CPU generator; the same state gives the same latents.

        Raises AudioError for no ids or an id that the voice does not know.
        """
        if not ids or not all(0 <= i < self.symbols for i in ids):
            raise AudioError(
                f"The voice expected phoneme ids between 0 and {self.symbols - 1}, at least one, "
                f"but got {list(ids)[:8]}; use the phoneme map that came with the voice."
            )
        device = self.encoder.embedding.device
        hidden, mean, log_deviation = self.encoder(torch.tensor(ids, device=device))
        noise = _noise((len(ids), 2), generator, device) * sampling.noise_w
        lengths = torch.exp(self.durations(hidden, noise)) * sampling.length_scale
        frames = _frames(lengths, pace_factor(lengths, sampling.pace))
        if not int(frames.sum()):
            frames[-1] = 1
        mean = mean.repeat_interleave(frames, 0)
        deviation = log_deviation.repeat_interleave(frames, 0).exp()
        noise = _noise(tuple(mean.shape), generator, device) * sampling.noise_scale
        z = mean + noise * deviation
        return Latents(z.mT[None], tuple(frames.tolist()))


def pace_factor(lengths: Tensor, pace: float) -> float:
    """What to multiply the lengths (t,) of phonemes by, in frames, to have 1/pace of their sum.

    Each length is rounded up to whole frames, as in training, so a factor of 1/pace would change
    the sum by less than that: 1/0.85 gives 6 % more and not 18. The least factor is returned whose
    sum is not below the wanted one, or 0.25: each phoneme keeps a frame, so a voice may not be able
    to speak faster than some twice its own pace.
    """
    if pace == 1.0:
        return 1.0
    wanted = float(_frames(lengths, 1.0).sum()) / pace
    if pace > 1:
        low, high = _LEAST_FACTOR, 1.0
    else:  # rounding up can only add to the sum
        low, high = 1.0, max(1.0, wanted / max(float(lengths.sum()), _TINY))
    for _ in range(_PACE_STEPS):
        middle = (low + high) / 2
        enough = float(_frames(lengths, middle).sum()) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


def _frames(lengths: Tensor, factor: float) -> Tensor:
    return (lengths * factor).ceil().clamp(0, _MAX_FRAMES_PER_ID).long()


def _noise(
    shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
) -> Tensor:
    # Drawn on the CPU whatever the device, so that a seed means the same reading everywhere.
    return torch.randn(shape, generator=generator).to(device)


def _refuse_speakers(weights: VoiceWeights) -> None:
    if any(name.startswith(("emb_g.", "dec.cond.", "dp.cond.")) for name in weights.tensors):
        raise AudioError(
            f"{weights.source} is a voice with several speakers, which is not supported; choose "
            f"a single-speaker Piper voice."
        )
