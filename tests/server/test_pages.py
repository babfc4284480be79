"""The page before the API: what a browser may read of it, and the policy that comes with it."""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from assistant.server.app import create_app
from assistant.server.pages import FILES_PATH, mount_page, policy
from assistant.server.state import ServerState


@pytest.fixture(scope="module")
def page_app() -> Callable[[ServerState], TestClient]:
    def make(state: ServerState) -> TestClient:
        app = create_app(state)
        mount_page(app)
        return TestClient(app)

    return make


@pytest.fixture
def client(
    make_state: Callable[..., ServerState], page_app: Callable[[ServerState], TestClient]
) -> Iterator[TestClient]:
    with page_app(make_state()) as started:
        yield started


def directives(header: str) -> dict[str, list[str]]:
    parts = (part.split() for part in header.split(";"))
    return {name: values for name, *values in parts}


def test_the_policy_names_exactly_the_scripts_within_the_page(client: TestClient) -> None:
    page = client.get("/ui/")
    assert page.status_code == 200
    allowed = directives(page.headers["content-security-policy"])
    scripts = re.findall(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", page.text, re.S)
    assert len(scripts) >= 4
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert allowed["script-src"] == ["'self'", *(f"'sha256-{it}'" for it in hashes)]
    assert allowed["default-src"] == ["'none'"]
    assert allowed["frame-ancestors"] == ["'none'"]
    assert int(page.headers["content-length"]) == len(page.content)


def test_the_page_names_no_other_host(client: TestClient) -> None:
    page = client.get("/ui/", headers={"accept-encoding": "gzip, br"}).text
    tags = re.findall(r"<(?:link|script|meta|img)[^>]*>", page)
    assert not [tag for tag in tags if "http" in tag.replace("http-equiv", "")]
    assert f"{FILES_PATH}/mark.svg" in page


def test_the_address_alone_leads_to_the_page(client: TestClient) -> None:
    for address in ("/", "/ui"):
        assert client.get(address).url.path == "/ui/"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/ui/gradio_api/upload"),
        ("GET", "/ui/gradio_api/file=/etc/passwd"),
        ("GET", "/ui/gradio_api/queue/data"),
        ("GET", "/ui/gradio_api/info"),
        ("GET", "/ui/login"),
        ("GET", "/ui/assets/../gradio_api/info"),
    ],
)
def test_of_gradio_there_is_only_the_page(client: TestClient, method: str, path: str) -> None:
    response = client.request(method, path)
    assert response.status_code in (404, 405)
    assert "error" in response.json()


def test_the_page_is_only_read(client: TestClient) -> None:
    assert client.post("/ui/").status_code == 405


@pytest.mark.parametrize("name", ["page.js", "page.css", "client.js", "page/talk.html", "mark.svg"])
def test_its_files_are_there_with_the_policy(client: TestClient, name: str) -> None:
    file = client.get(f"{FILES_PATH}/{name}")
    assert file.status_code == 200
    assert file.headers["cache-control"] == "no-cache"
    assert file.headers["x-content-type-options"] == "nosniff"
    assert "script-src 'self';" in file.headers["content-security-policy"]


@pytest.mark.parametrize("name", ["app.py", "__init__.py", "py.typed", "nothing.js", "../main.js"])
def test_what_is_not_for_browsers_is_not_served(client: TestClient, name: str) -> None:
    assert client.get(f"{FILES_PATH}/{name}").status_code == 404


def test_without_scripts_of_its_own_a_page_may_run_only_ours() -> None:
    allowed = directives(policy(())["content-security-policy"])
    assert allowed["script-src"] == ["'self'"]
    assert not [name for name, values in allowed.items() if "'unsafe-eval'" in values]
