"""What the server counts and times, for Prometheus."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from assistant.server.tracing import Tracing

#: From one step of a model on a fast machine to a long answer on a slow one.
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The figures of one server, in a registry of its own.

    Names are the code's own, never a client's: every new one is a new time series.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, tracing: Tracing | None = None
    ) -> None:
        self._now, self.tracing = now, tracing or Tracing()
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # resident memory, CPU time, open files
        self._sessions = Gauge(
            "voxsight_sessions", "Running sessions.", ["kind"], registry=registry
        )
        self._queues = Gauge(
            *("voxsight_queue_bytes", "Bytes that wait, over all connections."),
            ["queue"],
            registry=registry,
        )
        self._stages = Histogram(
            *("voxsight_stage_seconds", "Time of one stage."),
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._requests = Histogram(
            *("voxsight_request_seconds", "Time from a request to the end of its response."),
            ["route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter("voxsight_tokens", "Tokens by kind.", ["kind"], registry=registry)
        self._errors = Counter("voxsight_errors", "Errors by kind.", ["kind"], registry=registry)
        self._models = Gauge(
            *("voxsight_model_memory_bytes", "Growth of resident memory by loading the models."),
            registry=registry,
        )

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage such as ``transcribe``, ``first_token`` or ``first_sound``."""
        began = self._now()
        with self.tracing.span(name):
            try:
                yield
            finally:
                self.took(name, self._now() - began)

    def took(self, name: str, seconds: float) -> None:
        """Counts a stage that was timed elsewhere."""
        self._stages.labels(name).observe(seconds)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts a request; ``route`` is the pattern of its path."""
        self._requests.labels(route, str(status)).observe(seconds)

    def tokens(self, kind: str, count: int) -> None:
        """Counts tokens: ``prompt``, ``cached``, ``completion``."""
        self._tokens.labels(kind).inc(count)

    def error(self, kind: str) -> None:
        """Counts an error."""
        self._errors.labels(kind).inc()

    def queue(self, name: str, bytes: int) -> None:
        """Adds to what waits in a queue, or takes from it."""
        self._queues.labels(name).inc(bytes)

    @contextmanager
    def session(self, kind: str) -> Iterator[None]:
        """Counts a session while it runs."""
        running = self._sessions.labels(kind)
        running.inc()
        try:
            with self.tracing.span("session", kind=kind):
                yield
        finally:
            running.dec()

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Adds a gauge that is read when somebody asks."""
        Gauge(f"voxsight_{name}", about, registry=self.registry).set_function(value)

    def models_loaded(self, bytes: int) -> None:
        """Tells how much memory the models took."""
        self._models.set(bytes)

    def page(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path to speak of
            pages = int(file.read().split()[1])
    except OSError:
        return 0
    import resource

    return pages * resource.getpagesize()
