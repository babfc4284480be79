"""The log: a line of JSON for each event, without private words, whatever becomes of the disk."""

import io
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from assistant.server.logs import JsonFormatter, current_id, logging_to

log = logging.getLogger("assistant.test")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_with_its_session_and_fields() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        token = current_id.set("req_1")
        log.info("request", extra={"ms": 1.5, "status": 200, "_mark": 1})
        current_id.reset(token)
        log.warning("later")
    first, second = lines(stream)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "id": "req_1",
        "event": "request",
        "logger": "assistant.test",
        "ms": 1.5,
        "status": 200,
    }
    assert "id" not in second


def fault() -> Exception:
    try:
        raise ValueError("my PIN is 1234")
    except ValueError as error:
        return error


def test_private_words_stay_out_unless_asked_for() -> None:
    def write(stream: io.StringIO, log_text: bool) -> None:
        with logging_to(stream, log_text=log_text):
            log.info("heard %s after %d ms", "my PIN is 1234", 20)
            log.info("heard", extra={"text": "my PIN is 1234"})
            log.error("failed", exc_info=fault())

    quiet, open_ = io.StringIO(), io.StringIO()
    write(quiet, False)
    write(open_, True)
    assert "1234" not in quiet.getvalue()
    heard, _, failed = lines(quiet)
    assert heard["event"] == "heard … after 20 ms"
    assert failed["fault"] == "ValueError"
    assert any("test_logs.py" in place and "fault" in place for place in failed["at"])
    assert open_.getvalue().count("my PIN is 1234") == 3


@pytest.mark.parametrize(
    ("message", "args"), [("%d", ("x",)), ("%s %s", (1,)), ("%(a)s", ({"a": "b"},)), ("100%", (1,))]
)
def test_a_message_that_does_not_fit_its_arguments(message: str, args: Any) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, message, args, None)
    assert json.loads(JsonFormatter(log_text=False).format(record))["event"]


def test_others_are_only_heard_when_they_warn() -> None:
    stream = io.StringIO()
    other = logging.getLogger("otherlib")
    with logging_to(stream):
        other.info("chatter")
        other.warning("careful")
    assert [line["event"] for line in lines(stream)] == ["careful"]


def test_everything_is_as_before_afterwards() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), log.getEffectiveLevel(), threading.active_count())
    with logging_to(io.StringIO()):
        assert log.isEnabledFor(logging.INFO)
    after = (root.level, list(root.handlers), log.getEffectiveLevel(), threading.active_count())
    assert after == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    full = open("/dev/full", "w", buffering=1)  # noqa: PTH123, SIM115 - closing it fails, too
    with logging_to(full):
        for number in range(20):
            log.info("event", extra={"number": number})
    with pytest.raises(OSError, match="No space"):
        full.close()


def test_a_closed_stream_costs_lines_and_nothing_else() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        stream.close()
        log.info("event")


def test_a_reader_that_stands_still_delays_nobody() -> None:
    """A pipe that nobody reads takes 64 KB; what comes then is dropped, and the caller goes on."""
    reading, writing = os.pipe()
    with open(writing, "w", buffering=1) as pipe:  # noqa: PTH123 - no path
        with logging_to(pipe):
            for number in range(5000):
                log.info("event", extra={"number": number, "padding": "x" * 100})
        received = threading.Thread(target=drain, args=(reading,))
        received.start()
    received.join()
    os.close(reading)


def drain(descriptor: int) -> None:
    while os.read(descriptor, 65536):
        pass


def test_what_was_dropped_is_told() -> None:
    class Moody(io.StringIO):
        refused = 0
        noticed = threading.Event()

        def write(self, text: str) -> int:
            if self.refused < 2:
                self.refused += 1
                if self.refused == 2:
                    self.noticed.set()
                raise OSError(28, "No space left on device")
            return super().write(text)

    stream = Moody()
    with logging_to(stream):
        log.info("lost")
        log.info("lost")
        stream.noticed.wait()
        log.info("kept")
    (kept,) = lines(stream)
    assert (kept["event"], kept["dropped"]) == ("kept", 2)
