from pathlib import Path

import pytest

from assistant.config import Settings, load_settings
from assistant.errors import ConfigError


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"VOXSIGHT_{name.upper()}", raising=False)
    monkeypatch.delenv("VOXSIGHT_CONFIG", raising=False)


def test_priority_is_default_file_environment_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "voxsight.toml"
    file.write_text('threads = 3\nvoice = "from file"\nrecogniser = "from file"\n')
    monkeypatch.setenv("VOXSIGHT_VOICE", "from environment")
    monkeypatch.setenv("VOXSIGHT_RECOGNISER", "from environment")
    settings = load_settings(file, recogniser="override", language_model=None)
    assert settings.threads == 3
    assert settings.voice == "from environment"
    assert settings.recogniser == "override"
    assert settings.language_model == Settings.model_fields["language_model"].default


def test_file_named_by_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("offline = true")
    monkeypatch.setenv("VOXSIGHT_CONFIG", str(file))
    assert load_settings().offline is True


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("treads = 3", "Unknown setting 'treads'; the known ones are cache_dir"),
        ("threads = 0", "Setting 'threads' cannot be 0"),
        ('threads = "many"', "Setting 'threads' cannot be 'many'"),
        ("threads = ", "is not valid TOML"),
    ],
)
def test_bad_file_is_one_clear_sentence(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "voxsight.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        load_settings(file)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read the settings file"):
        load_settings(tmp_path / "none.toml")


def test_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXSIGHT_OFLINE", "1")
    with pytest.raises(ConfigError, match=r"VOXSIGHT_OFLINE; .*VOXSIGHT_OFFLINE"):
        load_settings()
