import json
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from assistant.errors import ConfigError, VoxsightError
from assistant.jobs import transcribe
from assistant.jobs.outputs import Outputs
from assistant.jobs.summary import TranscribeReport
from assistant.jobs.transcribing import Progress, TranscribeOptions
from audio.pcm import Sound
from tests.jobs.sounds import ToyModel, tone, touch, tree


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ToyModel:
    return ToyModel(tmp_path / "toy-model", monkeypatch)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name, seconds in (("a.wav", 0.5), ("in/a.wav", 1.0), ("in/a.flac", 1.5)):
        tone(tmp_path / "lib" / name, seconds)
    return tmp_path / "lib"


def run(toy: ToyModel, source: Path, out: Path, **options: Any) -> TranscribeReport:
    return transcribe(source, out, TranscribeOptions(**options), models=toy.models)


def test_every_recording_has_its_results(toy: ToyModel, library: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told: list[Progress] = []
    report = transcribe(library, out, models=toy.models, progress=told.append)
    assert (report.done, report.skipped, report.failures) == (3, 0, ())
    written = tree(out)
    names = {"a.wav", "in/a.wav", "in/a.flac"}
    endings = ("json", "txt", "srt", "vtt")
    assert set(written) - {".voxsight/lock"} == {f"{n}.{e}" for n in names for e in endings}
    assert written["in/a.flac.txt"] == b"1.5 seconds\n"
    assert b"00:00:00.000 --> 00:00:00.200" in written["in/a.wav.vtt"]
    result = json.loads(written["a.wav.json"])
    assert list(result)[:3] == ["made_from", "confidence", "text"]
    assert result["made_from"]["audio"] == "a.wav"
    assert result["made_from"]["model"] == "toy-model"
    assert result["confidence"] == 0.5
    assert result["segments"][0]["words"][1]["text"] == "seconds"
    assert str(tmp_path).encode() not in b"".join(written.values())
    assert told[-1] == Progress(3, 3, 0, 3.0, 3.0)
    assert [p.done_s for p in told] == sorted(p.done_s for p in told)
    assert report.total.sound_s == 3.0
    assert report.summary()["languages"] == {
        "en": {"recordings": 3, "audio_seconds": 3.0, "confidence": 0.5}
    }


def test_what_is_done_is_not_done_again_unless_it_has_changed(
    toy: ToyModel, library: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(toy, library, out)
    before = tree(out)
    report = run(toy, library, out)
    assert (report.done, report.skipped, toy.heard) == (0, 3, 3)
    # Another time of change with the same content, such as of a copied library.
    touch(library / "a.wav")
    assert run(toy, library, out).skipped == 3
    assert (out / "a.wav.json").stat().st_mtime_ns == (library / "a.wav").stat().st_mtime_ns
    assert tree(out) == before
    # Another content of the same size, and one of another size.
    tone(library / "a.wav", 0.5)
    with (library / "a.wav").open("r+b") as file:
        file.seek(100)
        file.write(b"\1\2\3\4")
    touch(library / "a.wav")
    tone(library / "in/a.wav", 2.0)
    report = run(toy, library, out)
    assert (report.done, report.skipped) == (2, 1)
    assert (out / "in/a.wav.txt").read_text() == "2 seconds\n"


def test_other_options_models_and_formats_make_it_anew(
    toy: ToyModel, library: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(toy, library, out, formats=("txt",)).done == 3
    assert not (out / "a.wav.srt").exists()
    assert run(toy, library, out, formats=()).skipped == 3
    assert run(toy, library, out, formats=("txt", "vtt")).done == 3
    assert run(toy, library, out, formats=("txt",), language="de").done == 3
    assert run(toy, library, out, formats=("txt",), task="translate").done == 3
    (tmp_path / "toy-model" / "model.bin").write_bytes(b"trained on")
    assert run(toy, library, out, formats=("txt",), task="translate").done == 3


@pytest.mark.parametrize("content", [b"", b"{}", b"{\n", b'{\n  "made_from": [1],\n', b"\xff\xfe"])
def test_what_is_no_result_is_written_over(
    toy: ToyModel, library: Path, tmp_path: Path, content: bytes
) -> None:
    out = tmp_path / "out"
    run(toy, library, out)
    before = tree(out)
    (out / "a.wav.json").write_bytes(content)
    assert run(toy, library, out).done == 1
    assert tree(out) == before


def test_bad_recordings_are_listed_and_the_others_are_done(
    toy: ToyModel, library: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (library / "empty.wav").touch()
    (library / "text.mp3").write_text("no sound at all")
    (library / "cut.wav").write_bytes((library / "a.wav").read_bytes()[:3000])
    tone(library / "none.wav", 0.0)
    film(library / "silent.mkv")
    report = run(toy, library, out)
    assert (report.done, report.recordings) == (3, 8)
    reasons = {failure.audio: failure.reason for failure in report.failures}
    assert list(reasons) == ["cut.wav", "empty.wav", "none.wav", "silent.mkv", "text.mp3"]
    assert reasons["cut.wav"].startswith("cut.wav is truncated")
    assert reasons["empty.wav"] == "empty.wav is empty; expected a sound file"
    assert "length of 0 s" in reasons["none.wav"]
    assert "no audio track" in reasons["silent.mkv"]
    assert "is not a sound file" in reasons["text.mp3"]
    listed = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [(one["audio"], one["reason"]) for one in listed] == list(reasons.items())
    assert not list(out.glob("empty*"))


def film(path: Path) -> None:
    """A picture that moves, without sound."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))


def test_failures_are_tried_again_when_asked_for_or_changed(
    toy: ToyModel, library: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    toy.fail = refuse(0.5, 1.5)
    first = run(toy, library, out)
    assert [f.audio for f in first.failures] == ["a.wav", "in/a.flac"]
    assert "RuntimeError: too hard" in first.failures[0].reason
    toy.fail = refuse()
    # Listed again, though nothing was tried.
    assert run(toy, library, out).failures == first.failures
    # The one that has changed is tried.
    tone(library / "a.wav", 0.7)
    second = run(toy, library, out)
    assert [f.audio for f in second.failures] == ["in/a.flac"]
    third = run(toy, library, out, retry_failed=True)
    assert (third.done, third.skipped, third.failures) == (1, 2, ())
    assert not (out / "failures.jsonl").exists()


def refuse(*lengths_s: float) -> Any:
    def fail(sounds: Sequence[Sound]) -> None:
        if any(sound.duration_s in lengths_s for sound in sounds):
            raise RuntimeError("too hard")

    return fail


def test_of_a_group_that_fails_the_others_are_done_one_by_one(
    toy: ToyModel, library: Path, tmp_path: Path
) -> None:
    toy.fail = refuse(1.0)
    report = run(toy, library, tmp_path / "out", retries=0)
    assert report.done == 2
    assert [f.audio for f in report.failures] == ["in/a.wav"]
    assert toy.groups == [1, 1]


def test_a_list_cut_off_by_a_kill_is_still_read(
    toy: ToyModel, library: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (library / "empty.wav").touch()
    first = run(toy, library, out)
    whole = (out / "failures.jsonl").read_bytes()
    (out / "failures.jsonl").write_bytes(whole + b'{"audio": "x.w')
    (out / ".voxsight" / "partial").mkdir()
    (out / ".voxsight" / "partial" / "123").write_bytes(b"half")
    assert run(toy, library, out).failures == first.failures
    assert (out / "failures.jsonl").read_bytes() == whole
    assert list((out / ".voxsight").iterdir()) == [out / ".voxsight" / "lock"]


def test_manifests_tell_languages_and_names(toy: ToyModel, library: Path, tmp_path: Path) -> None:
    manifest = library / "list.jsonl"
    lines = [
        {"audio": "a.wav", "id": "one", "language": "de"},
        {"audio": "a.wav", "id": "two"},
        {"audio": "in/a.wav", "id": "three", "language": "xx"},
        {"audio": "gone.wav", "id": "four"},
    ]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "out"
    report = run(toy, manifest, out, language="fr")
    assert json.loads((out / "one.json").read_text())["language"] == "de"
    assert json.loads((out / "two.json").read_text())["language"] == "fr"
    assert {f.audio: f.reason for f in report.failures} == {
        "three": "this Whisper model does not know the language 'xx'",
        "four": "No such file or directory: four",
    }
    assert list(report.languages) == ["de", "fr"]
    assert report.total.recordings == 2


def test_an_overlap_is_done_once(toy: ToyModel, library: Path, tmp_path: Path) -> None:
    sources = [library, library / "in", library / "a.wav"]
    report = transcribe(sources, tmp_path / "out", models=toy.models)
    assert (report.done, toy.heard) == (3, 3)


def test_a_folder_that_cannot_be_written_is_refused(
    toy: ToyModel, library: Path, tmp_path: Path
) -> None:
    with pytest.raises(VoxsightError, match="Cannot write results to .*a.wav"):
        run(toy, library, library / "a.wav")
    with pytest.raises(VoxsightError, match="Cannot write results to /proc/none"):
        run(toy, library, Path("/proc/none"))
    assert toy.heard == 0


def test_two_jobs_do_not_write_to_one_folder(toy: ToyModel, library: Path, tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "out")
    lock = outputs.open()
    with pytest.raises(VoxsightError, match="Another job writes to"):
        run(toy, library, tmp_path / "out")
    outputs.close(lock)
    assert run(toy, library, tmp_path / "out").done == 3


def test_a_full_disk_fails_what_does_not_fit_and_leaves_no_half(
    toy: ToyModel, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    real, synced = os.fsync, []

    def fsync(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 6:  # the second format of the second recording
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    report = run(toy, library, out)
    assert report.done == 2
    (failure,) = report.failures
    assert failure.reason == "cannot write the result: No space left on device"
    assert not (out / f"{failure.audio}.json").exists()
    assert not (out / ".voxsight" / "partial").exists()
    assert run(toy, library, out, retry_failed=True).done == 1


def test_results_have_the_usual_permissions(toy: ToyModel, library: Path, tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        run(toy, library, tmp_path / "out")
    finally:
        os.umask(umask)
    mode = (tmp_path / "out" / "a.wav.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o640


def test_names_that_are_no_text_are_told_apart(
    toy: ToyModel, library: Path, tmp_path: Path
) -> None:
    for name in (b"\xfe.wav", b"\xff.wav"):
        (library / os.fsdecode(name)).touch()
    shutil.copy(library / "in/a.flac", library / os.fsdecode(b"\xff.flac"))
    report = run(toy, library, tmp_path / "out")
    assert report.recordings == 6
    assert {r"\xfe.wav", r"\xff.wav"} <= {f.audio for f in report.failures}
    assert run(toy, library, tmp_path / "out").recordings == 6


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"formats": ("pdf",)}, "txt, srt, vtt; got 'pdf'"),
        ({"retries": -1}, "got -1"),
        ({"device": "tpu"}, "cpu or cuda, got 'tpu'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        TranscribeOptions(**options)
