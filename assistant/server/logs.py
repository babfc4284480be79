"""Structured logs: one line of JSON for each event on standard error, without private words."""

import contextlib
import json
import logging
import queue
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any, TextIO

#: The request or session that a record belongs to; set by ``border`` for all that it calls.
current_id: ContextVar[str | None] = ContextVar("voxsight_id", default=None)

#: Records that may wait for a slow disk; what comes on top is dropped and counted.
_WAITING_RECORDS = 2000
#: Extra fields of records that hold what somebody said or wrote.
_PRIVATE = frozenset({"text", "transcript", "instructions", "prompt"})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "id"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON.

    The event is the record's message. What is filled into it may be anything that a client sent,
    so only numbers are, and a fault is told by its kind and place, unless ``log_text`` is set.
    """

    def __init__(self, log_text: bool) -> None:
        super().__init__()
        self._log_text = log_text

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower()}
        if (name := getattr(record, "id", None)) is not None:
            line["id"] = name
        line |= {"event": self._event(record), "logger": record.name}
        line |= {
            key: value
            for key, value in vars(record).items()
            # What begins with _ is a library's own: Ray marks every record of a process.
            if key not in _STANDARD
            and not key.startswith("_")
            and (self._log_text or key not in _PRIVATE)
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= self._fault(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)

    def _event(self, record: logging.LogRecord) -> str:
        if self._log_text or not record.args:
            return record.getMessage()
        args = record.args if isinstance(record.args, tuple) else (record.args,)
        try:
            return str(record.msg) % tuple(a if isinstance(a, int | float) else "…" for a in args)
        except (TypeError, ValueError):
            return str(record.msg)

    def _fault(self, fault: BaseException) -> dict[str, Any]:
        frames = traceback.extract_tb(fault.__traceback__)[-12:]
        told = {
            "fault": type(fault).__name__,
            "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        }
        return told | ({"fault_text": str(fault)} if self._log_text else {})


class _Stamp(QueueHandler):
    """Hands records to the thread that writes; never waits, and never fails."""

    def __init__(self, waiting: "queue.Queue[Any]") -> None:
        super().__init__(waiting)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # The base class would format the record here and lose its fields.
        record.id = current_id.get()
        return record

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's name
        self.dropped += 1


class _Sturdy(logging.StreamHandler[TextIO]):
    """A stream that may be full or closed: the server matters more than its log."""

    def __init__(self, stream: TextIO, stamp: _Stamp) -> None:
        super().__init__(stream)
        self._stamp, self._failed = stamp, False

    def emit(self, record: logging.LogRecord) -> None:
        dropped, self._failed = self._stamp.dropped, False
        if dropped:
            record.dropped = dropped
        super().emit(record)
        if not self._failed:
            self._stamp.dropped -= dropped

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's name
        self._failed = True
        self._stamp.dropped += 1


@contextlib.contextmanager
def logging_to(stream: TextIO | None = None, *, log_text: bool = False) -> Iterator[None]:
    """Writes the logs of our own packages, and others' warnings, to a stream while it is entered.

    A thread does the writing, so that a slow disk or a full pipe delays nobody.
    """
    waiting: queue.Queue[Any] = queue.Queue(_WAITING_RECORDS)
    stamp = _Stamp(waiting)
    sturdy = _Sturdy(stream or sys.stderr, stamp)
    sturdy.setFormatter(JsonFormatter(log_text))
    listener = QueueListener(waiting, sturdy)
    root, own = logging.getLogger(), logging.getLogger("assistant")
    before = (root.level, own.level)
    root.addHandler(stamp)
    root.setLevel(logging.WARNING)
    own.setLevel(logging.INFO)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(stamp)
        root.setLevel(before[0])
        own.setLevel(before[1])
        _stop(listener)
        stamp.close()


def _stop(listener: QueueListener) -> None:
    """Ends the thread that writes, unless it hangs on a stream that takes nothing."""
    thread = listener._thread
    with contextlib.suppress(queue.Full):
        listener.enqueue_sentinel()
    if thread is not None:
        thread.join(timeout=1.0)
