"""Piper's own way to speak, as the voice's peer: its ONNX file in onnxruntime, without noise."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def piper_session(onnx_file: Path, threads: int) -> Any:
    """The voice's file loaded by onnxruntime, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])


def piper_inputs(ids: Sequence[int]) -> dict[str, Any]:
    """The session's inputs for phoneme ids, without noise and at the voice's own pace."""
    return {
        "input": np.array([ids], np.int64),
        "input_lengths": np.array([len(ids)], np.int64),
        "scales": np.array([0.0, 1.0, 0.0], np.float32),
    }
