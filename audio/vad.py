"""Is someone speaking: Silero VAD v6, one probability for each 32 ms of a stream."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

from audio.errors import AudioError
from audio.pcm import SAMPLE_RATE, Samples, check_samples

#: Samples of one block at 16 kHz: each gives one probability.
BLOCK = 512
BLOCK_MS = 1000 * BLOCK // SAMPLE_RATE

_CONTEXT = 64  # samples of the block before that the model sees again
_HIDDEN = 128
_BLOCKS_PER_RUN = 512  # 16 s of sound, 1.2 MB of input: a whole file stays in little memory
_SHAPES = {"input": _CONTEXT + BLOCK, "h": _HIDDEN, "c": _HIDDEN}


def _zeros() -> NDArray[np.float32]:
    return np.zeros((1, 1, _HIDDEN), np.float32)


@dataclass(eq=False)
class VadState:
    """What belongs to one stream; the caller holds it and gives it to every `push`.

    hidden, cell: (1, 1, 128), the LSTM's; tail: (64 + n,), the last 64 samples that were heard,
    which the next block begins with, and n < 512 samples that do not fill a block yet; blocks: how
    many blocks have been heard.
    """

    hidden: NDArray[np.float32] = field(default_factory=_zeros)
    cell: NDArray[np.float32] = field(default_factory=_zeros)
    tail: Samples = field(default_factory=lambda: np.zeros(_CONTEXT, np.float32))
    blocks: int = 0

    @property
    def position(self) -> int:
        """Samples of the stream that the probabilities so far cover."""
        return self.blocks * BLOCK


class SileroVad:
    """The loaded model. It holds no state of any stream, so sessions and threads share one.

    One block costs about 0.1 ms alone and 0.05 ms among many, so whoever has a long sound gives
    it in one `push`.

    Source: https://github.com/snakers4/silero-vad, the ONNX file in faster-whisper's layout.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    @classmethod
    def load(cls, path: Path | None = None) -> "SileroVad":
        """Load the model at `path`, or the copy that lies in the faster-whisper package.

        Raises AudioError if the file is absent or is not this model.
        """
        path = path or _packaged_model()
        if not path.is_file():
            raise AudioError(
                f"expected the Silero VAD model at {path}, found no file; "
                "reinstall faster-whisper, or give the path of silero_vad_v6.onnx"
            )
        try:
            session = onnxruntime.InferenceSession(
                path.read_bytes(), _one_quiet_thread(), providers=["CPUExecutionProvider"]
            )
        except (Fail, InvalidGraph, InvalidProtobuf) as error:
            raise AudioError(
                f"expected the Silero VAD model at {path}, but it cannot be loaded "
                f"({type(error).__name__}); reinstall faster-whisper"
            ) from error
        found = {given.name: given.shape[-1] for given in session.get_inputs()}
        if found != _SHAPES:
            raise AudioError(
                f"expected a model with the inputs {_SHAPES} at {path}, got {found}; "
                "give the path of silero_vad_v6.onnx"
            )
        return cls(session)

    def push(self, state: VadState, samples: Samples) -> NDArray[np.float32]:
        """Hear `samples` (n,) at 16 kHz; the probability of speech in each block now complete.

        Block i of the stream covers samples 512 i to 512 (i + 1). However the stream is cut into
        pushes, the probabilities are the same bit for bit. Raises AudioError, and leaves the
        state as it was, for samples that are not mono float32 sound.
        """
        check_samples(samples)
        heard = np.concatenate((state.tail, samples))
        count = (len(heard) - _CONTEXT) // BLOCK
        if not count:
            state.tail = heard
            return np.zeros(0, np.float32)
        hidden, cell, found = state.hidden, state.cell, []
        for at in range(0, count, _BLOCKS_PER_RUN):
            some = _with_context(heard[at * BLOCK :], min(count - at, _BLOCKS_PER_RUN))
            feed = {"input": some, "h": hidden, "c": cell}
            probabilities, hidden, cell = self._session.run(None, feed)
            found.append(probabilities)
        state.hidden, state.cell = hidden, cell
        state.tail = heard[count * BLOCK :].copy()
        state.blocks += count
        return np.concatenate(found)


def _with_context(heard: Samples, count: int) -> Samples:
    """(64 + 512 count or more,) -> (count, 576): each block after the 64 samples before it."""
    before = heard[: count * BLOCK].reshape(count, BLOCK)[:, :_CONTEXT]
    blocks = heard[_CONTEXT : _CONTEXT + count * BLOCK].reshape(count, BLOCK)
    return np.concatenate((before, blocks), axis=1)


def _packaged_model() -> Path:
    # Found, not imported: importing faster-whisper takes seconds.
    spec = importlib.util.find_spec("faster_whisper")
    if spec is None or not spec.submodule_search_locations:
        raise AudioError(
            "expected the faster-whisper package, which holds the Silero VAD model, but it is not "
            "installed; install it, or give the path of silero_vad_v6.onnx"
        )
    return Path(spec.submodule_search_locations[0], "assets", "silero_vad_v6.onnx")


def _one_quiet_thread() -> Any:
    """A block is too little work for a second thread, and a spinning one would cost a core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    return options
