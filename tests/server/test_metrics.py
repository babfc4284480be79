"""The figures: each counted once, in a registry of its own."""

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from assistant.server.metrics import Metrics, resident_bytes
from assistant.server.state import ServerState


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"voxsight_{name}", labels)


def test_stages_are_timed_even_if_they_fail() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    with metrics.stage("transcribe"):
        clock.at += 0.3
    with pytest.raises(KeyError), metrics.stage("transcribe"):
        clock.at += 3.0
        raise KeyError
    assert value(metrics, "stage_seconds_count", stage="transcribe") == 2
    assert value(metrics, "stage_seconds_sum", stage="transcribe") == pytest.approx(3.3)
    assert value(metrics, "stage_seconds_bucket", stage="transcribe", le="0.4") == 1


def test_sessions_queues_tokens_and_errors() -> None:
    metrics = Metrics()
    with metrics.session("realtime"), metrics.session("realtime"):
        assert value(metrics, "sessions", kind="realtime") == 2
    assert value(metrics, "sessions", kind="realtime") == 0
    metrics.queue("send", 300)
    metrics.queue("send", -100)
    assert value(metrics, "queue_bytes", queue="send") == 200
    metrics.tokens("prompt", 12)
    assert value(metrics, "tokens_total", kind="prompt") == 12
    metrics.error("slow_reader")
    assert value(metrics, "errors_total", kind="slow_reader") == 1
    metrics.models_loaded(10**9)
    assert value(metrics, "model_memory_bytes") == 1e9


def test_two_servers_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.error("x")
    assert value(second, "errors_total", kind="x") is None


def test_the_page_is_what_prometheus_reads(make_client: Any) -> None:
    client = make_client()
    state: ServerState = client.app.state.server
    client.get("/healthz")
    client.get("/nowhere/with/a/secret")
    with state.admission.session():
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert {
        "voxsight_sessions",
        "voxsight_queue_bytes",
        "voxsight_stage_seconds",
        "voxsight_tokens",
        "voxsight_errors",
        "voxsight_model_memory_bytes",
        "process_resident_memory_bytes",
    } <= set(families)
    routes = {sample.labels["route"] for sample in families["voxsight_request_seconds"].samples}
    assert routes == {"/healthz", "other"}
    assert "secret" not in response.text


def test_resident_memory_is_that_of_a_python_process() -> None:
    assert 10_000_000 < resident_bytes() < 2**40
