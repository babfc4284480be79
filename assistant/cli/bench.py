"""``voxsight bench``: every claim about speed has its command, and names the peer that it beats."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assistant.assets import asset
from assistant.cli.console import PullBars, counted, make_table, print_json, remarks, results
from assistant.config import load_settings
from assistant.errors import ConfigError
from assistant.loading import Models

if TYPE_CHECKING:
    from assistant.bench.features import FeatureReport

app = typer.Typer(help="Measure speed against named peers.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="End with one line of JSON.")]
Rounds = Annotated[int, typer.Option(min=1, help="How many runs each median is over.")]


@app.command()
def features(
    data: Annotated[
        Path | None, typer.Option(help="Folder with transcripts.tsv: compare the words heard, too.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Recogniser that reads DATA.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    rounds: Rounds = 15,
    json: Json = False,
) -> None:
    """Log-mel features: 30 s, a 100 ms tick, growth, against four libraries; with parity."""
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"Expected the device cpu or cuda, got {device!r}.")
    summary = _features_cuda(rounds) if device == "cuda" else _features_cpu(data, model, rounds)
    if json:
        print_json(summary)


def _features_cpu(data: Path | None, model: str | None, rounds: int) -> dict[str, Any]:
    from assistant.bench.features import compare_texts, measure_features, steps
    from assistant.evals.asr import read_transcripts
    from audio.features.dispatch import prepare
    from audio.media import read_sound

    recordings = read_transcripts(data) if data else []
    prepare(remarks.print)
    speech = read_sound(asset("demo/question.wav")).samples
    with counted("Measuring the features", steps(rounds)) as advance:
        report = measure_features(speech, rounds=rounds, progress=advance)
    if recordings:
        models = Models(load_settings(recogniser=model), PullBars(), remarks.print)
        folder = models.folder(models.settings.recogniser)
        with counted("Comparing the words", 2 * len(recordings)) as advance:
            report = replace(report, texts=compare_texts(folder, recordings, advance))
    _show_features(report)
    return report.summary()


def _show_features(report: "FeatureReport") -> None:
    table = make_table(
        "30 s of sound, 80 bands, one thread, medians",
        *("by", "ms", "time / ours"),
        numbers=("ms", "time / ours"),
    )
    for name, microseconds in report.window_us.items():
        table.add_row(name, f"{microseconds / 1000:.2f}", f"{report.ratio(name):.1f}")
    results.print(table, "")
    for title, column, rows in (
        ("A 100 ms tick of a running stream", "by", report.tick_us),
        ("A second of sound, by the length of the stream", "seconds", report.second_us),
        ("A 100 ms tick of 64 streams", "pushed", report.streams_us),
    ):
        table = make_table(title, column, "µs", numbers=("seconds", "µs"))
        for name, microseconds in dict[Any, float](rows).items():
            table.add_row(str(name), f"{microseconds:,.1f}")
        results.print(table, "")
    results.print(f"Largest difference from the definition: {max(report.errors.values()):.1e}")
    results.print(f"... from transformers' extractor: {report.max_abs_error_whisper:.1e}")
    if report.texts:
        same, int8, total = (
            *(report.texts.texts_identical, report.texts.texts_identical_int8),
            report.texts.texts,
        )
        results.print(
            f"Same words as from faster-whisper's features: {same} of {total} in float32, "
            f"{int8} of {total} in int8"
        )


def _features_cuda(rounds: int) -> dict[str, Any]:
    from assistant.bench.features_cuda import measure_cuda

    summary: dict[str, Any] = measure_cuda(rounds=rounds).summary()
    table = make_table("Features on the GPU", "what", "measured", numbers=("measured",))
    for key, value in summary.items():
        table.add_row(key, str(value))
    results.print(table)
    return summary
