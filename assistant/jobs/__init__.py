"""Jobs without anybody waiting: a library transcribed, a film dubbed; resumed where they ended."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assistant.jobs.dub.job import dub
    from assistant.jobs.transcribing import transcribe

__all__ = ["dub", "transcribe"]


def __getattr__(name: str) -> Any:
    # Each job brings libraries of its own, which the other does without.
    if name == "transcribe":
        from assistant.jobs.transcribing import transcribe

        return transcribe
    if name == "dub":
        from assistant.jobs.dub.job import dub

        return dub
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
