"""Fetches a file from the public web, and from nowhere else, for a server that allows it."""

import asyncio
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

from assistant.server.errors import ApiError

_BLOCK = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
#: The addresses of a host and a port; as `socket.getaddrinfo` finds them.
Resolve = Callable[[str, int], list[str]]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


@dataclass(frozen=True)
class RemoteLimits:
    """How much is fetched, for how long, and through how many redirects."""

    max_bytes: int
    timeout_s: float = 10.0
    max_redirects: int = 3
    resolve: Resolve = field(default=_resolve, repr=False)


async def fetch(url: str, limits: RemoteLimits, param: str | None = None) -> bytes:
    """What is at a public http(s) address; ApiError 400 for any other address, and if it fails.

    Names are resolved first and the connection goes to the very address that was checked, so that
    a name server cannot answer otherwise the second time. A redirect is checked like a first URL.
    """
    try:
        return await asyncio.to_thread(_fetch, url, limits)
    except _NotFetchedError as problem:
        raise ApiError(400, str(problem), param=param, code="url_not_fetched") from None


class _NotFetchedError(Exception):
    """Why a URL gave nothing, in one sentence."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to a host of the public internet."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        # Addresses that stand for an IPv4 one are no more public than that.
        inner = [parsed.ipv4_mapped, parsed.sixtofour, *(parsed.teredo or ())]
        if parsed in _NAT64:
            inner.append(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF))
        if any(it is not None and not is_public(str(it)) for it in inner):
            return False
    return parsed.is_global and not (
        parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified
    )


def _fetch(url: str, limits: RemoteLimits) -> bytes:
    deadline = time.monotonic() + limits.timeout_s
    for _ in range(limits.max_redirects + 1):
        try:
            body, place = _get(url, limits, deadline)
        except (OSError, http.client.HTTPException, ValueError) as problem:
            reason = str(problem).split("\n")[0][:100] or type(problem).__name__
            raise _NotFetchedError(
                f"The URL could not be fetched: {reason}; send the data itself."
            ) from None
        if place is None:
            return body
        url = urljoin(url, place)
    raise _NotFetchedError(
        f"The URL leads on more than {limits.max_redirects} times; give the address of the file."
    )


def _get(url: str, limits: RemoteLimits, deadline: float) -> tuple[bytes, str | None]:
    """The body, or an empty one and where the address leads to instead."""
    parts, port = _checked(url)
    host = parts.hostname or ""
    addresses = limits.resolve(host, port)
    if not addresses or not all(map(is_public, addresses)):
        raise _NotFetchedError(
            f"The host '{host[:60]}' has no public address; only public ones are fetched from."
        )
    connection = _Pinned(host, port, addresses[0], parts.scheme == "https", _left(deadline))
    try:
        path = parts.path or "/"
        target = f"{path}?{parts.query}" if parts.query else path
        connection.request("GET", target, headers={"Accept-Encoding": "identity"})
        # Closed by itself: of a server that ends connections, nobody else holds it any more.
        with connection.getresponse() as response:
            if response.status in _REDIRECTS:
                return b"", response.headers.get("Location", "")
            if response.status != 200:
                raise _NotFetchedError(
                    f"The URL was answered with the status {response.status}; check the address."
                )
            return _read(response, limits, deadline, connection), None
    finally:
        connection.close()


def _checked(url: str) -> tuple[SplitResult, int]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _NotFetchedError("Expected an http or https URL with a host; send the data itself.")
    if parts.username is not None or parts.password is not None:
        raise _NotFetchedError("Expected a URL without a user's name or password; leave them out.")
    return parts, parts.port or (443 if parts.scheme == "https" else 80)


def _read(
    response: http.client.HTTPResponse,
    limits: RemoteLimits,
    deadline: float,
    connection: http.client.HTTPConnection,
) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        if connection.sock is not None:
            connection.sock.settimeout(_left(deadline))
        _left(deadline)
        block = response.read1(_BLOCK)
        if not block:
            return b"".join(pieces)
        pieces.append(block)
        size += len(block)
        if size > limits.max_bytes:
            raise _NotFetchedError(
                f"The file at the URL is larger than {limits.max_bytes} bytes; take a smaller one."
            )


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it took too long")
    return left


class _Pinned(http.client.HTTPConnection):
    """A connection to one address, whatever the host's name resolves to by now."""

    def __init__(self, host: str, port: int, address: str, secure: bool, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._address, self._secure = address, secure
        self.default_port = 443 if secure else 80  # left out of the Host header

    def connect(self) -> None:
        """Connect to the address; the certificate must still be the host's."""
        sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            context = ssl.create_default_context()
            sock = context.wrap_socket(sock, server_hostname=self.host)
        self.sock = sock
