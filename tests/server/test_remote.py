import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from assistant.server import remote
from assistant.server.errors import ApiError
from assistant.server.remote import RemoteLimits, fetch, is_public


class Site(BaseHTTPRequestHandler):
    """Some pages, and who asked for them."""

    seen: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.headers["Host"], self.path))
        name, _, rest = self.path[1:].partition("/")
        if name == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
            return
        if name == "slow":
            time.sleep(1.0)
        self.send_response(404 if name == "gone" else 200)
        self.end_headers()
        self.wfile.write(b"x" * (50_000 if name == "big" else 5))

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A site on this machine that passes for a public one; its port."""
    Site.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(remote, "is_public", lambda address: address == "127.0.0.1")
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def resolving(**hosts: list[str]) -> Callable[[str, int], list[str]]:
    return lambda host, port: hosts[host.partition(".")[0]]


def get(url: str, **limits: Any) -> bytes:
    defaults = {"max_bytes": 1000, "resolve": resolving(good=["127.0.0.1"], bad=["10.0.0.1"])}
    return asyncio.run(fetch(url, RemoteLimits(**(defaults | limits)), "image_url"))


def refusal(url: str, **limits: Any) -> str:
    with pytest.raises(ApiError) as caught:
        get(url, **limits)
    assert (caught.value.status, caught.value.param) == (400, "image_url")
    return caught.value.message


def test_a_file_is_fetched_from_the_address_that_was_checked(site: int) -> None:
    assert get(f"http://good.example:{site}/a?b=c") == b"xxxxx"
    assert Site.seen == [(f"good.example:{site}", "/a?b=c")]


def test_a_name_is_resolved_once(site: int) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    assert get(f"http://good.example:{site}/", resolve=lambda *_: next(answers)) == b"xxxxx"
    assert list(answers) == [["10.0.0.1"]]


def test_a_host_with_any_private_address_is_refused(site: int) -> None:
    both = resolving(good=["127.0.0.1", "192.168.0.1"])

    assert "no public address" in refusal(f"http://good.example:{site}/", resolve=both)
    assert "no public address" in refusal(f"http://bad.example:{site}/")
    assert "no public address" in refusal("http://none.example/", resolve=lambda *_: [])
    assert Site.seen == []


def test_a_redirect_is_followed_if_it_leads_to_a_public_address(site: int) -> None:
    assert get(f"http://good.example:{site}/to//b") == b"xxxxx"
    inside = refusal(f"http://good.example:{site}/to/http://bad.example/b")
    assert "'bad.example' has no public address" in inside
    assert "Expected an http" in refusal(f"http://good.example:{site}/to/file:///etc/passwd")


def test_redirects_in_a_circle_end(site: int) -> None:
    assert "more than 3 times" in refusal(f"http://good.example:{site}/to/" + "to/" * 9)


def test_size_and_time_are_bounded(site: int) -> None:
    assert "larger than 1000 bytes" in refusal(f"http://good.example:{site}/big")
    assert "could not be fetched" in refusal(f"http://good.example:{site}/slow", timeout_s=0.2)
    assert "status 404" in refusal(f"http://good.example:{site}/gone")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:word@good.example/",
        "http:///a",
        "http://good.example:99999/",
        "http://[::1/",
        "http://good.example/a b\r\nX: y",
    ],
)
def test_odd_urls_are_refused(site: int, url: str) -> None:
    assert refusal(url)
    assert Site.seen == []


def test_a_closed_port_and_an_unknown_name_are_refusals(site: int) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise OSError("name not known")

    assert "name not known" in refusal("http://good.example/", resolve=unknown)
    assert "could not be fetched" in refusal("https://good.example:1/")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "240.0.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "nonsense"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)
