"""Spans, with OpenTelemetry's package and without."""

import sys
from typing import Any

import pytest

from assistant.server.metrics import Metrics
from assistant.server.tracing import Tracing


@pytest.fixture
def exported() -> Any:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


def test_stages_are_children_of_their_request(exported: Any) -> None:
    provider, exporter = exported
    tracing = Tracing(provider)
    metrics = Metrics(tracing=tracing)
    with tracing.span("request", current=True, id="req_1"), metrics.stage("transcribe"):
        pass
    stage, request = exporter.get_finished_spans()
    assert (stage.name, request.name) == ("transcribe", "request")
    assert stage.parent.span_id == request.context.span_id
    assert request.attributes == {"id": "req_1"}


def test_a_fault_is_told_by_its_kind_only(exported: Any) -> None:
    provider, exporter = exported
    for current in (False, True):
        with (
            pytest.raises(ValueError, match="1234"),
            Tracing(provider).span("stage", current=current),
        ):
            raise ValueError("my PIN is 1234")
    for span in exporter.get_finished_spans():
        assert span.status.description == "ValueError"
        assert "1234" not in span.to_json()


def test_without_the_package_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    metrics = Metrics(tracing=Tracing())
    with metrics.stage("transcribe"), metrics.session("realtime"):
        pass
    assert metrics.registry.get_sample_value(
        "voxsight_stage_seconds_count", {"stage": "transcribe"}
    )
