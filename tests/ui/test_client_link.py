"""The client where things go wrong: refusals, closes, permissions, a network that breaks."""

from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest
from playwright.sync_api import Browser

from tests.ui.browsers import watched
from tests.ui.driving import Driver
from tests.ui.peer import Peer, Session, peering, tone
from tests.ui.site import Site, serving

#: Browsers themselves write a line about a connection that failed.
EXPECTED = ("WebSocket connection to", "Failed to load resource")
SOON = {"firstMs": 20, "longestMs": 100}


@pytest.fixture
def peer() -> Iterator[Peer]:
    with peering() as started:
        yield started


@pytest.fixture
def open_page(browser: Browser, site: Site, peer: Peer) -> Iterator[Callable[..., Driver]]:
    """Opens a page with a client that is not connected yet; takes its options."""
    with watched(browser, *EXPECTED) as page:
        yield lambda **options: Driver(
            page, site, options.pop("url", peer.url), reconnect=SOON, **options
        )


def test_a_full_server_says_so(open_page: Callable[..., Driver], peer: Peer) -> None:
    full = "The server holds 2 sessions, as many as it can; try again in 5 s."
    peer.on_open = lambda session: session.close(1013, full)
    driver = open_page()
    assert driver.connect() == "server_full"
    (problem,) = driver.told("problem")
    assert (problem["message"], problem["fatal"]) == (full, True)
    assert driver.do("[client.state, client.audioContext]") == ["closed", None]


@pytest.mark.parametrize(
    ("close", "code"),
    [
        (4401, "key_refused"),
        (4403, "page_refused"),
        (4404, "session_refused"),
        (4429, "limit_reached"),
        (4500, "server_failed"),
        (1012, "server_restarting"),
    ],
)
def test_a_page_is_told_why_it_was_refused(
    open_page: Callable[..., Driver], peer: Peer, close: int, code: str
) -> None:
    peer.on_open = lambda session: session.close(close, "The server's own sentence.")
    driver = open_page(microphone=False)
    assert driver.connect() == code
    assert driver.told("problem")[0]["message"] == "The server's own sentence."


def test_a_server_that_takes_no_calls_from_this_page(browser: Browser, site: Site) -> None:
    with serving() as other, watched(browser, *EXPECTED, "CORS policy") as page:
        url = f"ws://localhost:{other.port}/v1/realtime"  # it lets no other page read anything
        driver = Driver(page, site, url, microphone=False)
        assert driver.connect() == "page_refused"


@pytest.mark.parametrize(
    ("models", "ready", "code"),
    [
        (HTTPStatus.UNAUTHORIZED, HTTPStatus.OK, "key_refused"),
        (HTTPStatus.FORBIDDEN, HTTPStatus.OK, "page_refused"),
        (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE, "server_restarting"),
        (HTTPStatus.OK, HTTPStatus.OK, "connection_lost"),
    ],
)
def test_a_refused_handshake_is_looked_into(
    open_page: Callable[..., Driver],
    peer: Peer,
    models: HTTPStatus,
    ready: HTTPStatus,
    code: str,
) -> None:
    peer.refusal, peer.models_status, peer.ready_status = HTTPStatus.UNAUTHORIZED, models, ready
    driver = open_page(microphone=False)
    assert driver.connect() == code
    assert driver.problems == [code]


def test_no_server(open_page: Callable[..., Driver]) -> None:
    driver = open_page(url="ws://localhost:9/v1/realtime", microphone=False)
    assert driver.connect() == "server_unreachable"


@pytest.mark.parametrize(
    ("close", "code"),
    [
        (lambda session: session.close(1012, "The server is shutting down."), "server_restarting"),
        (lambda session: session.close(1013, "The client reads too slowly."), "server_full"),
        (lambda session: session.close(4429, "The key has used up its tokens."), "limit_reached"),
        (lambda session: session.vanish(), "connection_lost"),
    ],
)
def test_it_comes_back_with_its_conversation(
    open_page: Callable[..., Driver],
    peer: Peer,
    close: Callable[[Session], None],
    code: str,
) -> None:
    driver = open_page(session={"instructions": "Be brief."})
    assert driver.connect() is None
    first = peer.session()
    driver.do("client.updateSession({ instructions: 'Be long.' })")
    driver.do("client.sendText('Hello?')")
    first.until("response.create")
    first.begin(text="Good day to you all today.")
    first.say(tone(0.3))
    first.end("Good day to you all today.")
    driver.wait_told("heard")
    first.begin("item_b", "resp_2", "Once upon a time there was a king of great renown.")
    first.say(tone(5.0), "item_b", "resp_2")
    driver.wait_told("playback", "e.itemId === 'item_b' && e.playedMs > 600")
    close(first)
    second = peer.session()
    driver.wait("client.state === 'live'")
    assert second.got[0]["session"]["instructions"] == "Be long."
    given = [second.until("conversation.item.create")["item"] for _ in range(3)]
    texts = [item["content"][0]["text"] for item in given]
    assert texts[:2] == ["Hello?", "Good day to you all today."]
    assert texts[2].startswith("Once upon") and not texts[2].endswith("renown.")
    assert driver.do("client.conversation.items.map((item) => item.text)") == texts
    (problem,) = driver.told("problem")
    assert (problem["code"], problem["fatal"]) == (code, False)
    assert 10 <= problem["retryMs"] <= 20
    states = [event["state"] for event in driver.told("state")]
    assert states.index("reconnecting") > states.index("live")
    before = len(second.sound)
    driver.wait("client.hasMicrophone")
    driver.page.wait_for_timeout(300)
    assert len(second.sound) > before


def test_it_gives_up_after_its_attempts(open_page: Callable[..., Driver], peer: Peer) -> None:
    driver = open_page(microphone=False)
    driver.do("Object.assign(client._address.reconnect, { attempts: 3 })")
    assert driver.connect() is None
    peer.refusal = HTTPStatus.SERVICE_UNAVAILABLE
    peer.session().close(1012)
    driver.wait("client.state === 'closed'")
    problems = driver.told("problem")
    assert [problem["fatal"] for problem in problems] == [False, False, False, True]
    waits = [problem["retryMs"] for problem in problems[:3]]
    for place, wait in enumerate(waits):
        assert 10 * 2**place <= wait <= 20 * 2**place


def test_a_fault_of_the_server_ends_it(open_page: Callable[..., Driver], peer: Peer) -> None:
    driver = open_page(microphone=False)
    assert driver.connect() is None
    peer.session().close(1011, "The server failed; the code is 123.")
    driver.wait("client.state === 'closed'")
    (problem,) = driver.told("problem")
    assert problem["message"] == "The server failed; the code is 123."
    assert problem["fatal"]


def test_a_session_that_is_over_goes_on_in_a_new_one(
    open_page: Callable[..., Driver], peer: Peer
) -> None:
    driver = open_page(microphone=False)
    assert driver.connect() is None
    first = peer.session()
    message = "The session reached its longest duration of 3600 s; open a new one."
    first.send("error", error={"code": "session_expired", "message": message})
    first.close(1000, message)
    peer.session()
    driver.wait("client.state === 'live'")
    assert driver.problems == ["session_expired"]


def test_a_key_can_be_fetched_for_each_session(
    open_page: Callable[..., Driver], peer: Peer
) -> None:
    driver = open_page(microphone=False)
    driver.do("{ let n = 0; client._address.key = async () => `ek_${n += 1}`; }")
    assert driver.connect() is None
    first = peer.session()
    first.vanish()
    assert first.subprotocols.endswith(".ek_1")
    assert peer.session().subprotocols.endswith(".ek_2")


@pytest.mark.parametrize("close", ["client.close()", "setTimeout(() => client.close())"])
def test_closing_while_it_waits_to_come_back(
    open_page: Callable[..., Driver], peer: Peer, close: str
) -> None:
    driver = open_page(microphone=False)
    assert driver.connect() is None
    # Closed in the page: a look at the state from out here may miss its 10 to 20 ms of waiting.
    driver.do(f"client.addEventListener('state', () => {{ {close}; }}, {{ once: true }})")
    peer.session().vanish()
    driver.wait("client.state === 'closed'")
    assert [event["state"] for event in driver.told("state")][-2:] == ["reconnecting", "closed"]
    driver.page.wait_for_timeout(300)
    assert peer.opened == 1
    assert driver.do("client.state") == "closed"


def test_a_refused_event_is_told(open_page: Callable[..., Driver], peer: Peer) -> None:
    driver = open_page(microphone=False)
    assert driver.connect() is None
    session = peer.session()
    session.refuse["conversation.item.delete"] = "There is no such item."
    driver.do("client.send({ type: 'conversation.item.delete', item_id: 'item_x' })")
    assert driver.wait_told("problem")["message"] == "There is no such item."
    assert driver.do("client.state") == "live"


def test_without_permission_it_can_still_be_written(
    playwright: object, launch_browser: Callable[..., Browser], site: Site, peer: Peer
) -> None:
    # Nobody answers the question for permission in a headless browser: it counts as refused.
    with watched(launch_browser(allowed=False)) as page:
        driver = Driver(page, site, peer.url)
        assert driver.connect() is None
        assert driver.problems == ["microphone_refused"]
        assert driver.do("client.hasMicrophone") is False
        assert driver.do("client.cameraOn().catch((e) => e.code)") == "camera_refused"
        driver.do("client.sendText('Hello')")
        assert peer.session().until("response.create")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("NotFoundError", "missing"),
        ("NotReadableError", "busy"),
        ("OverconstrainedError", "missing"),
    ],
)
def test_what_is_wrong_with_a_device(
    open_page: Callable[..., Driver], error: str, code: str
) -> None:
    driver = open_page()
    driver.do(
        "{ navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', x); }; }",
        error,
    )
    assert driver.connect() is None
    assert driver.problems == [f"microphone_{code}"]
    assert driver.do("client.cameraOn().catch((e) => e.code)") == f"camera_{code}"


def test_an_unplugged_microphone_is_told(open_page: Callable[..., Driver]) -> None:
    driver = open_page()
    assert driver.connect() is None
    driver.do("client._sound.stream.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    assert driver.problems == ["microphone_lost"]
    assert driver.do("client.hasMicrophone") is False
    driver.do("client.openMicrophone()")
    assert driver.do("client.hasMicrophone") is True


def test_a_page_that_is_not_secure(browser: Browser, site: Site, peer: Peer) -> None:
    with watched(browser) as page:
        driver = Driver(page, site, peer.url)
        driver.do("Object.defineProperty(globalThis, 'isSecureContext', { value: false })")
        assert driver.connect() == "insecure_context"
        assert "https" in driver.told("problem")[0]["message"]


EAGER = """<!doctype html><title>eager</title><link rel=icon href=data:,><script type=module>
  import { VoxsightClient } from "/client.js";
  window.client = new VoxsightClient({ url: "URL", microphone: false });
  client.addEventListener("problem", ({ detail }) => console.log(detail.code));
  client.connect();
</script>"""


def test_without_a_click_the_sound_is_blocked(browser: Browser, site: Site, peer: Peer) -> None:
    site.own["/eager/"] = EAGER.replace("URL", peer.url).encode()
    with watched(browser) as page:
        # Nothing is asked of the page until then: to the browser that would be as good as a click.
        with page.expect_console_message(lambda told: told.text == "sound_blocked"):
            page.goto(f"{site.origin}/eager/")
        peer.session().until("session.update")
        assert page.evaluate("client.audioContext.state") == "suspended"
        page.keyboard.press("a")
        page.wait_for_function("client.audioContext.state === 'running'")


def test_two_clients_on_two_pages(browser: Browser, site: Site, peer: Peer) -> None:
    with watched(browser) as one, watched(browser) as other:
        drivers = [Driver(page, site, peer.url, microphone=False) for page in (one, other)]
        sessions = []
        for driver in drivers:
            assert driver.connect() is None
            sessions.append(peer.session())
        for name, session in zip("ab", sessions, strict=True):
            session.begin(text=f"I am {name}.")
            session.say(tone(0.2))
            session.end(f"I am {name}.")
        for name, driver in zip("ab", drivers, strict=True):
            assert driver.wait_told("heard")["text"] == f"I am {name}."
            assert len(driver.told("heard")) == 1
