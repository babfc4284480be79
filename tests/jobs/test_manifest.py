from pathlib import Path

import pytest

from assistant.errors import ConfigError
from assistant.jobs.manifest import Facts, Line, check, read_lines


def written(folder: Path, text: str) -> Path:
    file = folder / "list.jsonl"
    file.write_text(text, encoding="utf-8")
    return file


def test_lines_are_read_and_summed_up(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '\ufeff{"audio": "a.wav", "language": "de", "id": "x/1"}\n\n'
        '{"audio": "b.wav", "id": "ü 2"}',
    )
    assert list(read_lines(file)) == [Line("a.wav", "de", "x/1"), Line("b.wav", None, "ü 2")]
    assert check(file) == Facts(2, frozenset({"de"}), True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "one recording a line"),
        ('{"audio": "a"}\n{"audio": ', "line 2 of .*list.jsonl is not JSON"),
        ("[1]", "an object such as"),
        ("[" * 100_000, "line 1 .* is not JSON"),
        ('{"audio": "a", "lang": "de"}', "line 1 .* has the key 'lang'; expected audio, language"),
        ('{"audio": "a", "audio": "b"}', "a key comes twice"),
        ('{"language": "de"}', "line 1 .* lacks the key 'audio'"),
        ('{"audio": 3}', "text as 'audio' in line 1 .* got 3"),
        ('{"audio": " "}', "text as 'audio'"),
        ('{"audio": "a\\u0000b"}', "text as 'audio'"),
        ('{"audio": "a", "language": null}', "text as 'language'"),
        ('{"audio": "a", "language": "German"}', "a code such as en or de .* got 'German'"),
        ('{"audio": "a", "id": "../b"}', "an id that can name a file"),
        ('{"audio": "a", "id": "/b"}', "an id that can name a file"),
        ('{"audio": "a", "id": ".b"}', "an id that can name a file"),
        ('{"audio": "a", "id": "' + "x" * 201 + '"}', "up to 200 bytes"),
        ('{"audio": "a", "id": "1"}\n{"audio": "b", "id": "1"}', "the id '1' twice"),
        ('{"audio": "a"}\n{"audio": "./a"}', "the recording 'a' twice; give each line its own id"),
        ('{"audio": "a", "id": "1"}\n{"audio": "b"}', "1 of 2 lines .* have an id"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check(written(tmp_path, text))


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    with pytest.raises(ConfigError, match="Cannot read the manifest"):
        check(file)
    file.write_bytes(b'{"audio": "\xff"}')
    with pytest.raises(ConfigError, match="not UTF-8"):
        check(file)
