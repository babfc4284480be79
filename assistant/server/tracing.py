"""OpenTelemetry spans, if its package is installed; otherwise nothing.

What is done with the spans is the operator's choice, made with OpenTelemetry's own means
(``opentelemetry-instrument`` or the ``OTEL_*`` variables); by default they go nowhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any


class Tracing:
    """Makes spans.

    Args:
        provider: OpenTelemetry's tracer provider; by default the process's own.
    """

    def __init__(self, provider: Any = None) -> None:
        self._trace: Any = None
        try:
            from opentelemetry import trace
        except ImportError:
            return
        self._trace = trace
        self._tracer = trace.get_tracer("voxsight", tracer_provider=provider)

    @contextmanager
    def span(
        self, name: str, *, current: bool = False, **attributes: str | int | float
    ) -> Iterator[None]:
        """A span around a block; its fault is recorded by its kind only, for words may be private.

        Args:
            name: of the span.
            current: whether spans within are its children; only for a block that begins and ends
                in the same task.
            attributes: of the span; never speech, text or keys.
        """
        if self._trace is None:
            yield
            return
        span = self._tracer.start_span(name, attributes=attributes)
        within = self._trace.use_span(span, record_exception=False) if current else nullcontext()
        try:
            with within:
                yield
        except BaseException as fault:
            span.set_status(self._trace.StatusCode.ERROR, type(fault).__name__)
            raise
        finally:
            span.end()
