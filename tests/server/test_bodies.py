"""Bodies: counted as they come, whatever their header says."""

import asyncio
from typing import Any

import pytest
from fastapi import Request
from starlette.testclient import TestClient

from assistant.server.app import create_app
from assistant.server.bodies import BodyLimitMiddleware
from assistant.server.errors import ApiError


@pytest.fixture
def make_echo(make_state: Any) -> Any:
    """Clients of a server that tells how long a body was."""

    def make(**chosen: Any) -> TestClient:
        app = create_app(make_state(**chosen))

        @app.post("/echo")
        async def echo(request: Request) -> int:
            return len(await request.body())

        @app.post("/fields")
        async def fields(body: dict[str, Any]) -> int:
            return len(body)

        @app.post("/form")
        async def form(request: Request) -> int:
            async with request.form() as parts:
                return len(parts)

        return TestClient(app)

    return make


@pytest.mark.parametrize("path", ["/echo", "/fields"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_body_that_is_too_large(make_echo: Any, path: str, streamed: bool) -> None:
    client = make_echo(max_json_bytes=1000)

    def send(size: int) -> Any:
        body = b'{"a": "' + b"x" * (size - 9) + b'"}'
        content: Any = (body[at : at + 64] for at in range(0, size, 64)) if streamed else body
        return client.post(path, content=content, headers={"Content-Type": "application/json"})

    assert send(1000).status_code == 200
    refused = send(1001)
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "body_too_large"
    assert "at most 1000 bytes" in refused.json()["error"]["message"]


def test_an_upload_may_be_as_large_as_a_file(make_echo: Any) -> None:
    client = make_echo(max_json_bytes=1000, max_upload_bytes=100_000)
    assert client.post("/form", files={"file": b"x" * 100_000}).status_code == 200
    refused = client.post("/form", files={"file": b"x" * 400_000})
    assert refused.status_code == 413


def test_a_length_that_lies_is_counted(make_echo: Any) -> None:
    client = make_echo(max_json_bytes=1000)
    pieces = (b"x" * 100 for _ in range(20))
    refused = client.post("/echo", content=pieces, headers={"Content-Length": "10"})
    assert refused.status_code == 413


def scope(**headers: str) -> Any:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "POST", "headers": pairs}


def test_a_body_that_stops_coming(make_config: Any) -> None:
    async def reads(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def never() -> Any:
        await asyncio.Event().wait()

    limit = BodyLimitMiddleware(reads, make_config(upload_idle_s=0.01))
    with pytest.raises(ApiError) as refused:
        asyncio.run(limit(scope(), never, never))
    assert refused.value.status == 408


def test_after_the_body_a_client_may_be_silent(make_config: Any) -> None:
    """Waiting for the client to leave is no waiting for its body."""
    seen = []

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        seen.append(await receive())

    async def receive() -> Any:
        if not seen:
            return {"type": "http.request", "body": b"x"}
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    limit = BodyLimitMiddleware(waits, make_config(upload_idle_s=0.01))
    asyncio.run(limit(scope(), receive, receive))
    assert seen[1] == {"type": "http.disconnect"}


def test_what_is_no_fault_of_the_body_is_passed_on(make_config: Any) -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("inner")

    limit = BodyLimitMiddleware(breaks, make_config())
    with pytest.raises(KeyError):
        asyncio.run(limit(scope(), breaks, breaks))
