"""A whole dub: goes on after a kill, same bytes again, edits re-make one line, and bad input."""

import errno
import json
import multiprocessing
import random
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from assistant.errors import ConfigError, VoxsightError
from assistant.jobs.content import Results
from assistant.jobs.dub import mix as mixing
from assistant.jobs.dub.job import Progress, _original_language
from assistant.jobs.dub.mix import MixOptions
from assistant.jobs.dub.options import DubOptions, dub_name, place_of
from assistant.jobs.engine import engine_by_name
from audio.errors import AudioError
from tests.jobs.dub_fakes import SAID, dub_slowly, played_dub
from tests.jobs.dub_samples import line, noise, packets, write_film, write_sound


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_film(tmp_path / "film.mp4", noise(5.0, level=0.05), seconds=5.0)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def _outputs(out: Path) -> dict[str, bytes]:
    """All that a job leaves for people, by name."""
    files = [out, *(path for path in (out.parent / f"{out.name}.dub").iterdir() if path.is_file())]
    return {file.name: file.read_bytes() for file in files}


def _journal(out: Path) -> Counter[tuple[str, str]]:
    return Counter(Results(out.parent / f"{out.name}.dub" / "stages").journal())


def _stages(out: Path) -> set[str]:
    stages = out.parent / f"{out.name}.dub" / "stages"
    return {path.relative_to(stages).as_posix() for path in stages.glob("[a-z]*/[0-9a-f]*")}


def test_a_dub_from_end_to_end(film: Path, models: Path, tmp_path: Path) -> None:
    steps: list[Progress] = []
    report = played_dub(film, tmp_path / "out", models, progress=steps.append)
    assert report.out == tmp_path / "out" / "film.en.mp4"
    assert [each.fitted.line.original for each in report.lines] == [text for _, text, *_ in SAID]
    assert packets(report.out, "video") == packets(film, "video")
    with av.open(str(report.out)) as file:
        assert [stream.language for stream in file.streams.audio] == ["eng", "mul"]
        assert len(file.streams.subtitles) == 1
    written = json.loads((report.folder / "report.json").read_text())
    assert written["totals"] == report.summary()
    assert abs(report.summary()["loudness_delta_lu"] or 0) <= 0.2
    assert [row["wording"] for row in written["lines"]][1] == "How are you?"
    # Stage by stage, and within a stage line by line.
    assert [step for step in steps if step.stage == "speak"] == [
        Progress("speak", done, 3) for done in range(4)
    ]
    assert str(tmp_path) not in (report.folder / "report.json").read_text()


def test_the_second_run_makes_nothing_and_the_same_bytes(
    film: Path, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    played_dub(film, out, models)
    first, made = _outputs(out), _journal(out)
    assert Counter(stage for stage, _ in made) == {
        **dict.fromkeys(("extract", "transcribe", "segment", "mix", "mux"), 1),
        **dict.fromkeys(("translate", "fit", "speak"), 3),
    }
    played_dub(film, out, models)
    assert (_outputs(out), _journal(out)) == (first, made)
    # Elsewhere, from nothing, and from another folder: the same.
    other = tmp_path / "elsewhere" / "out.mp4"
    other.parent.mkdir()
    shutil.copy(film, tmp_path / "elsewhere" / "film.mp4")
    played_dub(tmp_path / "elsewhere" / "film.mp4", other, models)
    assert _outputs(other) == first


def test_killed_ten_times_it_goes_on_and_does_nothing_twice(
    film: Path, models: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole.mp4", tmp_path / "killed.mp4"
    played_dub(film, whole, models)
    moments = random.Random(7)
    # One server imports everything once; each job is then forked from it in no time.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.jobs.dub_fakes"])
    kills = 0
    while kills < 10:
        process = processes.Process(target=dub_slowly, args=(film, killed, models))
        process.start()
        process.join(moments.uniform(0.0, 0.5))
        if process.exitcode is not None:
            assert process.exitcode == 0
            break  # done before all ten
        process.kill()
        process.join()
        kills += 1
        assert not killed.exists() or killed.read_bytes() == whole.read_bytes()
    played_dub(film, killed, models)
    renamed = {name.replace("killed", "whole"): data for name, data in _outputs(killed).items()}
    wanted = _outputs(whole)
    # The report names its output; all else is equal byte for byte.
    assert renamed.pop("report.json").replace(b"killed", b"whole") == wanted.pop("report.json")
    assert renamed == wanted
    assert kills >= 5
    assert set(_journal(killed).values()) == {1}
    # A kill may come between a result and its note; on the disk both have the very same results.
    assert _journal(killed) <= _journal(whole)
    assert _stages(killed) == _stages(whole)


def test_an_edited_line_is_made_anew_and_only_that(
    film: Path, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    report = played_dub(film, out, models)
    before = _journal(out)
    document = json.loads((report.folder / "lines.json").read_text())
    document["lines"][1]["text"] = "How do you do?"
    edits = tmp_path / "edited.json"
    edits.write_text(json.dumps(document))
    edited = played_dub(film, out, models, DubOptions(edits=edits))
    assert [each.fitted.wording for each in edited.lines][1] == "How do you do?"
    assert edited.lines[0] == report.lines[0]
    new = Counter(stage for stage, _ in _journal(out) - before)
    assert new == {"speak": 1, "mix": 1, "mux": 1}
    # What was written can be edited again, and as it is it changes nothing.
    again = DubOptions(edits=edited.folder / "lines.json")
    assert played_dub(film, out, models, again).lines == edited.lines


def test_a_person_keeps_an_original_and_gives_a_rate(
    film: Path, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    report = played_dub(film, out, models)
    document = json.loads((report.folder / "lines.json").read_text())
    document["lines"][0]["text"] = ""
    document["lines"][2]["rate"] = 1.21
    edits = tmp_path / "edited.json"
    edits.write_text(json.dumps(document))
    edited = played_dub(film, out, models, DubOptions(edits=edits))
    assert [each.line.number for each in edited.kept] == [1]
    assert edited.lines[-1].fitted.rate == 1.21
    written = json.loads((edited.folder / "lines.json").read_text())
    assert [row["rate"] for row in written["lines"]] == [None, None, 1.21]


def test_with_workers_the_same_bytes(film: Path, models: Path, tmp_path: Path) -> None:
    alone, engine = tmp_path / "a" / "out.mp4", tmp_path / "b" / "out.mp4"
    played_dub(film, alone, models)
    local = engine_by_name("local", workers=1)
    with pytest.MonkeyPatch.context() as patched:
        # A worker loads its own models; here they are played, too.
        from assistant.jobs.dub import line_work
        from tests.jobs.dub_fakes import played_models

        patched.setattr(line_work, "Models", lambda _: played_models(models))
        played_dub(film, engine, models, engine=local)
    assert _outputs(engine) == _outputs(alone)


def test_several_voices_for_several_speakers(film: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    report = played_dub(film, out, models, DubOptions(voices=("one", "two")))
    assert report.voices == {"A": "one"}
    document = json.loads((report.folder / "lines.json").read_text())
    document["lines"][1]["speaker"] = "B"
    edits = tmp_path / "edited.json"
    edits.write_text(json.dumps(document))
    options = DubOptions(voices=("one", "two"), edits=edits)
    assert played_dub(film, out, models, options).voices == {"A": "one", "B": "two"}


def test_the_original_removed(film: Path, models: Path, tmp_path: Path) -> None:
    options = DubOptions(mix=MixOptions("remove"))
    report = played_dub(film, tmp_path / "out.mp4", models, options)
    assert abs(report.summary()["loudness_delta_lu"] or 0) <= 1.0


def test_a_recording_gives_a_recording(models: Path, tmp_path: Path) -> None:
    source = write_film(tmp_path / "talk.m4a", noise(5.0), picture=None)
    report = played_dub(source, tmp_path, models)
    assert report.out.name == "talk.en.m4a"
    wav = played_dub(source, tmp_path / "talk.wav", models).out
    with av.open(str(wav)) as file:
        assert len(file.streams.audio) == 1


# Bad input


def test_no_audio_track(models: Path, tmp_path: Path) -> None:
    source = write_film(tmp_path / "mute.mp4", None)
    with pytest.raises(AudioError, match="has no audio track"):
        played_dub(source, tmp_path / "out", models)
    assert list((tmp_path / "out").iterdir()) == []


def test_zero_length(models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(AudioError, match="is empty"):
        played_dub(tmp_path / "empty.mp4", tmp_path / "out", models)
    nothing = write_sound(tmp_path / "nothing.wav", np.zeros((0, 1), np.float32))
    with pytest.raises(AudioError, match=r"length of 0 s|no audio|cannot be"):
        played_dub(nothing, tmp_path / "out", models)
    with pytest.raises(AudioError, match="there is no file"):
        played_dub(tmp_path / "none.mp4", tmp_path / "out", models)


def test_variable_frame_rate_stays(models: Path, tmp_path: Path) -> None:
    source = write_film(tmp_path / "v.mkv", noise(5.0), seconds=5.0, steps_ms=(17, 61, 33, 120))
    report = played_dub(source, tmp_path / "out.mkv", models)
    frames, copied = packets(source, "video"), packets(report.out, "video")
    assert [(data, at) for data, at, _ in copied] == [(data, at) for data, at, _ in frames]
    assert len({after - before for (_, before, _), (_, after, _) in pairwise(frames)}) > 2


def test_surround_sound(models: Path, tmp_path: Path) -> None:
    sound = noise(5.0, channels=6, level=0.03)
    source = write_film(tmp_path / "s.mp4", sound, seconds=5.0, layout="5.1")
    report = played_dub(source, tmp_path / "out.mp4", models)
    with av.open(str(report.out)) as file:
        assert [stream.channels for stream in file.streams.audio] == [2, 6]


def test_damage_in_the_middle(film: Path, models: Path, tmp_path: Path) -> None:
    data = bytearray(film.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    film.write_bytes(data)
    report = played_dub(film, tmp_path / "out.mp4", models)
    assert [data for data, *_ in packets(report.out, "video")] == [
        data for data, *_ in packets(film, "video")
    ]
    ends = [
        max(at + length for _, at, length in packets(report.out, k)) for k in ("video", "audio")
    ]
    assert abs(ends[0] - ends[1]) <= 40


def test_nobody_speaks(film: Path, models: Path, tmp_path: Path) -> None:
    with pytest.raises(VoxsightError, match=r"No speech was understood in film\.mp4"):
        played_dub(film, tmp_path / "out.mp4", models, said=())
    assert not (tmp_path / "out.mp4").exists()


def test_nothing_can_be_translated(film: Path, models: Path, tmp_path: Path) -> None:
    with pytest.raises(VoxsightError, match="no file was written: no translation"):
        played_dub(film, tmp_path / "out.mp4", models, said=(("ja", "いろは", 300, 900),))


def test_a_full_disk(
    film: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.mp4"

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(mixing.soundfile.SoundFile, "write", full)
        with pytest.raises(VoxsightError, match=r"No space|disk is full"):
            played_dub(film, out, models)
    assert not out.exists()
    assert not list(tmp_path.glob("out.mp4.dub/*.*"))
    assert played_dub(film, out, models).out.exists()


def test_a_place_that_cannot_be_written(film: Path, models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VoxsightError, match=r"Cannot write the dub .*Not a directory"):
        played_dub(film, tmp_path / "file" / "out.mp4", models)


def test_names_and_places(film: Path, tmp_path: Path) -> None:
    assert dub_name(film, "en") == "film.en.mp4"
    # In another container the name keeps its ending: film.m4a may lie beside it.
    assert dub_name(write_sound(tmp_path / "film.wav", noise(0.1)), "en") == "film.wav.en.mka"
    assert place_of(film, tmp_path / "new", "en").out == tmp_path / "new" / "film.en.mp4"
    with pytest.raises(ConfigError, match="would replace its source"):
        place_of(film, film, "en")
    with pytest.raises(ConfigError, match=r"Expected a folder or a name that ends in \.mp4"):
        place_of(film, tmp_path / "dub.avi", "en")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"language": "de"}, "Into 'de' a dub needs a translation model"),
        ({"language": "de", "translator": "x"}, r"needs a voice \(--voice\) that knows it"),
        ({"mix": MixOptions("keep-beds")}, "name the weights of torchaudio's hdemucs_high"),
    ],
)
def test_options_are_checked_at_once(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DubOptions(**wrong)


def test_the_language_of_the_original_track() -> None:
    german, french = line(1, 0, 900), line(2, 1000, 1100, language="fr")
    assert _original_language([german]) == _original_language([german, french]) == "deu"
    assert _original_language([line(1, 0, 100), french]) == "mul"
