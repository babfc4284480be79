"""The product: models, configuration, the assistant itself and its command line."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assistant.api import Assistant, Reply

__all__ = ["Assistant", "Reply"]


def __getattr__(name: str) -> Any:
    # Late, because the model libraries take seconds to import and most commands need only some.
    if name in __all__:
        from assistant import api

        return getattr(api, name)
    raise AttributeError(f"module 'assistant' has no attribute {name!r}")
