"""What waits for a client: in order, bounded, and given up at the right time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.server.realtime.outbox import ClientGoneError, Outbox, SlowReaderError


class Wire:
    """Takes frames one by one while it is open; counts what the outbox says waits."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.taken: list[str] = []
        self.bytes = 0
        self.fault: Exception | None = None

    async def send(self, text: str) -> None:
        await self.open.wait()
        if self.fault is not None:
            raise self.fault
        self.taken.append(text)

    def count(self, size: int) -> None:
        self.bytes += size


@given(st.lists(st.text(max_size=20)))
def test_frames_come_in_order_and_none_is_lost(frames: list[str]) -> None:
    async def scene() -> None:
        wire = Wire()
        outbox = Outbox(10_000, 1.0, wire.count)
        for frame in frames:
            outbox.put(frame)
        assert wire.bytes == outbox.waiting_bytes == sum(len(f.encode()) for f in frames)
        outbox.close()
        await outbox.deliver(wire.send)
        assert wire.taken == frames
        assert wire.bytes == 0
        with pytest.raises(ClientGoneError, match="has ended"):
            outbox.put("late")

    asyncio.run(scene())


def test_a_full_outbox_gives_the_client_up() -> None:
    async def scene() -> None:
        wire = Wire()
        outbox = Outbox(10, 1.0, wire.count)
        outbox.put("a" * 1000)  # one frame may be of any size
        with pytest.raises(SlowReaderError):
            outbox.put("b")
        with pytest.raises(SlowReaderError):
            outbox.put("c")
        assert wire.bytes == 0
        await outbox.deliver(wire.send)
        assert wire.taken == []

    asyncio.run(scene())


def test_a_frame_that_is_not_taken_in_time_gives_the_client_up() -> None:
    async def scene() -> None:
        wire = Wire()
        wire.open.clear()
        outbox = Outbox(1000, 0.05, wire.count)
        outbox.put("a")
        outbox.put("b")
        await outbox.deliver(wire.send)
        assert isinstance(outbox.fault, SlowReaderError)
        assert wire.bytes == 0

    asyncio.run(scene())


def test_a_slow_link_has_time_for_what_is_on_its_way() -> None:
    async def scene() -> None:
        wire = Wire()
        outbox = Outbox(10**6, 0.02, wire.count)
        outbox.put("a" * 16_000)  # half a second at the slowest rate
        outbox.put("b")
        delivering = asyncio.create_task(outbox.deliver(wire.send))
        while not wire.taken:
            await asyncio.sleep(0)
        wire.open.clear()
        await asyncio.sleep(0.1)
        wire.open.set()
        outbox.close()
        await delivering
        assert len(wire.taken) == 2

    asyncio.run(scene())


@pytest.mark.parametrize("fault", [OSError("reset"), TimeoutError("gone")])
def test_a_broken_connection_is_noticed(fault: Exception) -> None:
    async def scene() -> None:
        wire = Wire()
        wire.fault = fault
        outbox = Outbox(1000, 1.0, wire.count)
        outbox.put("a")
        await outbox.deliver(wire.send)
        with pytest.raises(ClientGoneError):
            outbox.put("b")

    asyncio.run(scene())


def test_a_cancelled_sender_leaves_nothing_waiting() -> None:
    async def scene() -> None:
        wire = Wire()
        wire.open.clear()
        outbox = Outbox(1000, 9.0, wire.count)
        for frame in "abc":
            outbox.put(frame)
        delivering = asyncio.create_task(outbox.deliver(wire.send))
        await asyncio.sleep(0.01)
        delivering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivering
        assert wire.bytes == 0

    asyncio.run(scene())
