"""A TCP proxy that does to a connection what networks do."""

import asyncio
import socket
import struct
from typing import Self


class Proxy:
    """Stands between a client and a server on this machine.

    ``delay_s`` holds every piece back, ``bytes_per_s`` lets so much of what the server sends
    through, ``hold`` stops everything without closing anything, ``cut`` breaks all connections.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.delay_s = 0.0
        self.bytes_per_s = float("inf")
        self.forwarded = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        self._flowing.clear()

    def cut(self) -> None:
        """Reset the connections, as a machine does that was switched off and on."""
        for pair in self._writers:
            for writer in pair:
                _reset(writer)

    def close_one_side(self, server: bool) -> None:
        """End one half of every connection; the other stays open."""
        for to_client, to_server in self._writers:
            (to_server if server else to_client).close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers.append((writer, to_server))
        for source, sink, limited in ((reader, to_server, False), (from_server, writer, True)):
            task = asyncio.create_task(self._pipe(source, sink, limited))
            self._tasks.add(task)

    async def _pipe(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, limited: bool
    ) -> None:
        try:
            while data := await source.read(4096):
                await self._flowing.wait()
                await asyncio.sleep(self.delay_s + (len(data) / self.bytes_per_s if limited else 0))
                sink.write(data)
                await sink.drain()
                self.forwarded += len(data)
        except OSError:
            pass
        finally:
            sink.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
