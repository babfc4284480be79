from openai.types import Model

from assistant.config import Settings
from assistant.server.http.names import served
from tests.server.conftest import MakeClient
from tests.server.sdk_types import checked, error


def test_models_are_listed_and_found_by_name_and_alias(make_client: MakeClient) -> None:
    client = make_client()
    listed = client.get("/v1/models").json()
    assert set(listed) == {"object", "data"}
    names = [entry["id"] for entry in listed["data"]]
    assert names == ["whisper-tiny.en", "en_US-joe-medium", "qwen2.5-coder-0.5b-instruct"]

    for asked, name in [*zip(names, names, strict=True), ("gpt-4o", names[2]), ("tts-1", names[1])]:
        model = checked(Model, client.get(f"/v1/models/{asked}").text)
        assert (model.id, model.object) == (name, "model")


def test_an_unknown_model_is_a_404_with_the_known_ones(make_client: MakeClient) -> None:
    client = make_client()
    for name in ("nothing", "a/b", "..%2f..%2fetc"):
        message = error(client.get(f"/v1/models/{name}"), 404, code="model_not_found")
        assert "whisper-tiny.en (recogniser)" in message


def test_a_folder_or_repository_is_called_by_its_last_part() -> None:
    settings = Settings(recogniser="/a/b/whisper", voice="hub:who/joe@main")

    assert [model.id for model in served(settings)][:2] == ["whisper", "joe"]
