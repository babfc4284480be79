"""Serves fake models through the product's own lifecycle; tests run it as a program.

Takes the server's settings as JSON, and how long loading the models takes in s.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Request, WebSocket
from starlette.responses import StreamingResponse

from assistant.server.app import create_app
from assistant.server.config import ServerConfig
from assistant.server.door import Caller, caller
from assistant.server.lifecycle import run
from assistant.server.state import ServerState, state_of
from tests.server.fakes import FakeEngine


def make_app(state: ServerState) -> FastAPI:
    app = create_app(state)

    @app.post("/test/count/{number}")
    async def count(number: int) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            for done in range(number):
                yield f"{done}\n"
                await asyncio.sleep(0.1)

        return StreamingResponse(pieces())

    @app.post("/test/stuck")
    async def stuck(request: Request) -> None:
        await state_of(request).engine.workers.think.run(threading.Event().wait)

    @app.websocket("/test/echo")
    async def echo(websocket: WebSocket, who: Annotated[Caller, Depends(caller)]) -> None:
        with who.session():
            await websocket.accept()
            while True:
                await websocket.send_text(await websocket.receive_text())

    return app


def main() -> None:
    config, load_s = ServerConfig.model_validate_json(sys.argv[1]), float(sys.argv[2])

    def load() -> FakeEngine:
        print(json.dumps({"loading": True}), flush=True)
        time.sleep(load_s)
        return FakeEngine.start()

    def ready(url: str, state: ServerState) -> None:
        print(json.dumps({"url": url}), flush=True)

    run(config, load, ready, make_app)


if __name__ == "__main__":
    main()
