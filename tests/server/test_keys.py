"""Keys: what is on the disk, who is found, what a running server notices."""

import json
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path

import pytest

from assistant.cli.app import run
from assistant.errors import ConfigError
from assistant.server.keys import KeyFile, hash_of
from assistant.server.limits import Limits


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "new" / "keys.json")


def test_only_a_hash_is_kept_in_a_file_of_the_owner(file: KeyFile) -> None:
    key, secret = file.create("ann")
    text = file.path.read_text()
    assert secret not in text and secret.removeprefix("vx-") not in text
    assert hash_of(secret) in text
    assert file.path.stat().st_mode & 0o777 == 0o600
    names = sorted(path.name for path in file.path.parent.iterdir())
    assert names == ["keys.json", "keys.json.lock"]
    assert file.find(secret) == key


def test_a_secret_has_256_random_bits(file: KeyFile) -> None:
    secrets = {file.create(f"key {number}")[1] for number in range(20)}
    assert len(secrets) == 20
    # base64 without padding: 43 signs for 32 bytes
    assert all(len(secret) == len("vx-") + 43 for secret in secrets)


def test_another_process_changes_the_file(file: KeyFile) -> None:
    """What counts is the file: a running server reads it anew when it has changed."""
    server = KeyFile(file.path)
    assert server.active() == ()
    _, secret = file.create("ann", Limits(sessions=2))
    found = server.find(secret)
    assert found is not None and found.limits == Limits(sessions=2)
    file.revoke("ann")
    assert server.find(secret) is None
    assert tuple(map(attrgetter("name"), server.keys())) == ("ann",)
    file.path.unlink()
    assert server.keys() == ()


def test_a_wrong_secret_finds_nothing(file: KeyFile) -> None:
    _, secret = file.create("ann")
    for wrong in ("", "vx-", secret[:-1], secret + "A", secret.upper(), "vx-ключ", hash_of(secret)):
        assert file.find(wrong) is None


def test_a_revoked_name_is_free_and_an_active_one_is_not(file: KeyFile) -> None:
    first, _ = file.create("ann")
    with pytest.raises(ConfigError, match="already"):
        file.create("ann")
    assert file.revoke(first.id).revoked is not None
    file.create("ann")
    with pytest.raises(ConfigError, match="the active ones are: ann"):
        file.revoke("bob")


@pytest.mark.parametrize("name", ["", " ann", "a" * 65, "a\nb"])
def test_a_strange_name_is_refused(file: KeyFile, name: str) -> None:
    with pytest.raises(ConfigError, match="Expected a name"):
        file.create(name)


@pytest.mark.parametrize("text", ["", "{", "{}", '[{"id": 1}]', '[{"name": "x"}]'])
def test_a_damaged_file_is_told(file: KeyFile, text: str) -> None:
    file.create("ann")
    file.path.write_text(text)
    with pytest.raises(ConfigError, match="damaged"):
        file.active()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Cannot"):
        KeyFile(tmp_path / "file" / "keys.json").create("ann")
    with pytest.raises(ConfigError, match="Cannot read"):
        KeyFile(tmp_path).keys()


def test_keys_made_at_the_same_time_are_all_kept(file: KeyFile) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: KeyFile(file.path).create(f"key {n}"), range(24)))
    assert len(file.active()) == 24


def test_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.json"
    monkeypatch.setenv("VOXSIGHT_SERVER_KEYS_FILE", str(path))
    assert run(["keys", "create", "ann", "--sessions", "2", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["key"].startswith("vx-") and made["limits"]["sessions"] == 2
    assert run(["keys", "create", "bob"]) == 0
    assert KeyFile(path).find(capsys.readouterr().out.strip()) is not None
    assert run(["keys", "revoke", "bob", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["revoked"] > 0
    assert run(["keys", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [key["name"] for key in listed["keys"]] == ["ann", "bob"]
    assert not any("hash" in key or "key" in key for key in listed["keys"])
    assert run(["keys", "list"]) == 0
    assert "ann" in capsys.readouterr().out
    assert run(["keys", "revoke", "ann"]) == 0
    assert run(["keys", "revoke", "ann"]) == 2
