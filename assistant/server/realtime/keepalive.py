"""Uvicorn's WebSocket, with a patient keepalive: whoever sends is alive, answered ping or not."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class PatientWebSocket(WebSocketsSansIOProtocol):
    """Does not take a busy client for a dead one.

    A client that uploads a recording faster than it is understood is read from with pauses, and
    its pong stands in line behind its own sound. So only a client that was being read from, and
    sent nothing at all since the ping, has missed it. A dead one is still found within
    ``ping_interval + ping_timeout`` of its last byte.
    """

    _heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        """Called with what came in."""
        self._heard_at = self.loop.time()
        super().data_received(data)

    def keepalive_timeout(self) -> None:
        """Called when the pong did not come in time."""
        if not self.read_paused and self._heard_at <= self.ping_sent_at:
            super().keepalive_timeout()
            return
        self.pong_timer = None
        if not self.close_sent and not self.transport.is_closing():
            self.send_keepalive_ping()
