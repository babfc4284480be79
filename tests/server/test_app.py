"""The application: its page, its borders, what an operator sees."""

import re
from typing import Any
from urllib.parse import urlsplit


def test_every_operation_is_described(make_client: Any) -> None:
    page = make_client().get("/openapi.json").json()
    assert page["info"]["title"] == "Voxsight"
    for path, operations in page["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"] and operation["tags"], f"{method} {path}"
            assert "422" not in operation["responses"]


def test_the_page_of_the_api_asks_no_other_host(make_client: Any) -> None:
    client = make_client()
    page = client.get("/docs").text
    asked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(asked) == 3
    for address in asked:
        assert not urlsplit(address).netloc
        assert client.get(address).status_code == 200
