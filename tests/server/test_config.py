"""The server's settings: where they come from and what is refused."""

from pathlib import Path

import pytest

from assistant.errors import ConfigError
from assistant.server.config import ServerConfig, load_server_config


def test_an_override_beats_the_environment_which_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text('host = "127.0.0.2"\nport = 1\nmax_sessions = 3\n')
    monkeypatch.setenv("VOXSIGHT_SERVER_PORT", "2")
    monkeypatch.setenv("VOXSIGHT_SERVER_ALLOWED_ORIGINS", "https://A.example, http://b.example:8")
    config = load_server_config(file, host="localhost", max_sessions=None)
    assert (config.host, config.port, config.max_sessions) == ("localhost", 2, 3)
    assert config.allowed_origins == ("https://a.example", "http://b.example:8")


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "server.toml"
    file.write_text('allowed_hosts = ["voice.example"]')
    monkeypatch.setenv("VOXSIGHT_SERVER_CONFIG", str(file))
    assert load_server_config().allowed_hosts == ("voice.example",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "Unknown server setting 'prot'"),
        ("port = 70000", "'port' cannot be 70000"),
        ("port = ", "not valid TOML"),
        ('allowed_origins = ["example.org"]', "expected origins such as"),
        ('allowed_origins = ["https://example.org/page"]', "expected origins such as"),
        ("drain_s = 60", "'drain_s' cannot be 60"),
    ],
)
def test_a_wrong_file_is_told_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_server_config(file)


def test_a_missing_file_and_an_unknown_variable_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="Cannot read"):
        load_server_config(tmp_path / "none.toml")
    monkeypatch.setenv("VOXSIGHT_SERVER_PROT", "1")
    with pytest.raises(ConfigError, match="VOXSIGHT_SERVER_PROT"):
        load_server_config()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.4", False),
        ("voice.example", False),
    ],
)
def test_which_addresses_only_this_machine_can_reach(host: str, loopback: bool) -> None:
    assert ServerConfig(host=host).loopback is loopback
