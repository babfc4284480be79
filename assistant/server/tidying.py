"""Memory that nobody needs any more goes back to the system."""

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from functools import cache

#: Of the GNU C library's mallopt: how many heaps there may be. Each thread that allocates at the
#: same time as another gets its own, and free room in one is of no use to the others.
_M_ARENA_MAX, _ARENAS = -8, 2
#: oneDNN compiles a kernel for each new shape, such as that of a clause of so many phonemes, and
#: keeps 1,024 of 0.1 to 0.7 MB each, once for torch and once for CTranslate2; torch keeps as many
#: of what it prepares for them. With 256 first sounds and whole clauses took no longer.
_KERNEL_CACHES, _KERNELS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"), "256"


def bound_memory() -> None:
    """Few heaps for all threads, few compiled kernels; to be called before models are loaded."""
    for name in _KERNEL_CACHES:
        os.environ.setdefault(name, _KERNELS)
    set_option = _of_c("mallopt")
    if set_option is not None:
        set_option(_M_ARENA_MAX, _ARENAS)


def set_models_aside() -> None:
    """Leave what is loaded for good out of garbage collection: a full one takes 0.2 s with it."""
    gc.collect()
    gc.freeze()


def tidy() -> None:
    """After a session: its objects refer to each other, and its memory lies between that of others.

    Takes some milliseconds. Without it, and with a heap for each thread, a server grew by 30 MB a
    minute under sessions that come and go: the collector waits for more objects, and the allocator
    keeps pages that are free.
    """
    gc.collect()
    trim = _of_c("malloc_trim")
    if trim is not None:
        trim(0)


@cache
def _of_c(name: str) -> "Callable[..., int] | None":
    """A function of the C library, None where it has no such one."""
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found
