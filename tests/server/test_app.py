"""The application: its page, its borders, what an operator sees."""

from typing import Any


def test_every_operation_is_described(make_client: Any) -> None:
    page = make_client().get("/openapi.json").json()
    assert page["info"]["title"] == "Voxsight"
    for path, operations in page["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"] and operation["tags"], f"{method} {path}"
            assert "422" not in operation["responses"]
