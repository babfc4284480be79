"""What all tests share: the model store, and the models themselves, loaded once."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    # Most tests need none of the models' libraries.
    from assistant.server.engine import Engine

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if not Path("/proc/driver/nvidia/gpus").exists():
    # Read when numba.cuda is first imported: kernels then run in Numba's simulator.
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")


# How long a case takes tells how busy the machine is; time is measured by benchmarks.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def model_folder() -> Callable[[str], Path]:
    """Gives the folder of a real model by its catalogue name, fetching it when it is missing."""
    from assistant.config import load_settings
    from assistant.models import ModelStore

    store = ModelStore(load_settings())
    return store.folder


@pytest.fixture(scope="session")
def live_engine(model_folder: Callable[[str], Path]) -> "Iterator[Engine]":
    """The real models, loaded once for all tests; use it with the mark ``models``."""
    from assistant.config import load_settings
    from assistant.server.engine import Engine

    engine = Engine.load(load_settings())
    yield engine
    engine.close()
