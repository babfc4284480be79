"""How much memory one session may come to take."""

from collections.abc import Iterator, Mapping
from typing import Any

from assistant.server.config import ServerConfig
from assistant.server.engine import Engine

#: A session's own: sound that waits for the recogniser, pictures, the conversation's items.
_OWN_BYTES = 32 * 2**20
#: A memory that grows is made twice as large, so up to half of it may be empty.
_SPARE = 2


def session_bytes(engine: Engine, config: ServerConfig) -> int:
    """Estimate of one session's memory at its longest, in bytes.

    By far the largest part are the language model's keys and values of every layer and position.
    A new conversation's cache holds the system prompt, which tells what a position takes.
    """
    own = _OWN_BYTES + config.send_buffer_bytes
    cache = engine.parts.new_cache()
    if cache is None or not len(cache):
        return own
    held: int = sum(array.nbytes for array in _arrays(cache))
    return own + _SPARE * config.max_conversation_tokens * held // len(cache)


def _arrays(value: Any) -> Iterator[Any]:
    """Every tensor within a cache, whichever library made it."""
    if hasattr(value, "nbytes"):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _arrays(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _arrays(part)
    elif hasattr(value, "__dict__"):
        yield from _arrays(vars(value))
