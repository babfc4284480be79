"""What all tests share: the model store, and no thread pool larger than the machine."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if not Path("/proc/driver/nvidia/gpus").exists():
    # Read when numba.cuda is first imported: kernels then run in Numba's simulator.
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")


@pytest.fixture(scope="session")
def model_folder() -> Callable[[str], Path]:
    """Gives the folder of a real model by its catalogue name, fetching it when it is missing."""
    from assistant.config import load_settings
    from assistant.models import ModelStore

    store = ModelStore(load_settings())
    return store.folder
