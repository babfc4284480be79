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
    from audio.tts import Precision

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
    if device == "cuda":
        from assistant.bench.features_cuda import measure_cuda

        return _show("Features on the GPU", measure_cuda(rounds=rounds).summary(), json)
    report = _features_cpu(data, model, rounds)
    _show_features(report)
    if json:
        print_json(report.summary())
    return None


def _features_cpu(data: Path | None, model: str | None, rounds: int) -> "FeatureReport":
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
    return report


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


@app.command()
def voice(
    voice: Annotated[str | None, typer.Option(help="Voice; see 'models list'.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the vocoder: float32, bfloat16 or float16.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    rounds: Rounds = 7,
    json: Json = False,
) -> None:
    """The streaming voice: speed and first sound against onnxruntime speaking a whole sentence."""
    from assistant.bench.voice import measure_voice, steps
    from audio.tts import Voice

    models = Models(load_settings(voice=voice), PullBars(), remarks.print)
    folder = models.folder(models.settings.voice)
    threads = tuple(sorted({1, models.settings.threads}))
    with counted("Speaking", steps(threads, rounds)) as advance:
        report = measure_voice(
            Voice.load(folder, device=device, precision=_precision(precision)),
            next(folder.glob("*.onnx")),
            threads=threads,
            rounds=rounds,
            progress=advance,
        )
    _show("The streaming voice on one sentence", report.summary(), json)


def _precision(name: str | None) -> "Precision | None":
    known: dict[str, Precision] = {
        "float32": "float32",
        "bfloat16": "bfloat16",
        "float16": "float16",
    }
    if name is not None and name not in known:
        raise ConfigError(f"Expected the precision {', '.join(known)}, got {name!r}.")
    return known[name] if name else None


@app.command()
def decode(rounds: Rounds = 5, json: Json = False) -> None:
    """The language model: speed, start and perplexity against transformers in bf16."""
    from assistant.bench.decode import measure_decode

    settings = load_settings()
    Models(settings, PullBars()).language_model_folder()
    with remarks.status("Starting") as status:
        report = measure_decode(
            settings, rounds=rounds, progress=lambda doing: status.update(doing.capitalize())
        )
    _show("The language model", report.summary(), json)


def _show(title: str, summary: dict[str, Any], json: bool) -> None:
    table = make_table(title, "what", "measured", numbers=("measured",))
    for key, value in summary.items():
        table.add_row(key, str(value))
    results.print(table)
    if json:
        print_json(summary)


@app.command()
def talk(
    data: Annotated[Path, typer.Option(help="Folder of recordings with transcripts.tsv.")],
    only: Annotated[
        list[str] | None, typer.Option(help="One part of it, such as words; may be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """A conversation: silence before answers, interruptions, words that stay, memory; minutes."""
    from assistant.bench.talk import PARTS, measure_talk

    models = Models(load_settings(), PullBars(), remarks.print)
    with remarks.status("Starting") as status:
        report = measure_talk(
            data,
            models,
            only=only or tuple(PARTS),
            progress=lambda doing: status.update(doing.capitalize()),
        )
    _show("A conversation", report.summary(), json)


@app.command()
def load(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of recordings that are spoken; default: the demo's question."),
    ] = None,
    sessions: Annotated[int, typer.Option(min=1, help="Where the search for the limit ends.")] = 16,
    turns: Annotated[int, typer.Option(min=1, help="Of each talker.")] = 8,
    soak: Annotated[float, typer.Option(min=0, help="Minutes of connect, talk, hang up.")] = 10.0,
    json: Json = False,
) -> None:
    """The server: how many talk at once, what one more is told, and a long soak; many minutes."""
    from assistant.bench.load import LoadOptions, measure_load

    with remarks.status("Starting the server") as status:
        report = measure_load(
            data,
            LoadOptions(most_sessions=sessions, turns=turns, soak_min=soak),
            progress=lambda doing: status.update(doing.capitalize()),
        )
    _show("The server under load", report.summary(), json)


@app.command()
def batch(
    data: Annotated[Path, typer.Option(help="Folder of recordings with transcripts.tsv.")],
    model: Annotated[str | None, typer.Option(help="Recogniser; see 'models list'.")] = None,
    beam: Annotated[int, typer.Option(min=1, help="Of both; 1 is greedy.")] = 1,
    seconds: Annotated[float, typer.Option(min=1, help="Of sound, at least.")] = 600.0,
    rounds: Rounds = 3,
    words: Annotated[bool, typer.Option(help="Find the times of words, too.")] = True,
    json: Json = False,
) -> None:
    """Many recordings through one recogniser, against faster-whisper's batched pipeline."""
    from assistant.bench.batch import measure_batch, steps

    models = Models(load_settings(recogniser=model), PullBars(), remarks.print)
    folder = models.folder(models.settings.recogniser)
    with counted("Recognising", steps(rounds)) as advance:
        report = measure_batch(
            data,
            folder,
            beam=beam,
            threads=models.settings.threads,
            seconds=seconds,
            rounds=rounds,
            words=words,
            progress=advance,
        )
    _show("Many recordings, in batches", report.summary(), json)


@app.command()
def jobs(
    tasks: Annotated[int, typer.Option(min=1, help="Simulated recordings.")] = 10_000,
    ray: Annotated[bool, typer.Option(help="Also two Ray actors on this machine.")] = True,
    json: Json = False,
) -> None:
    """What the scheduler of a batch costs for each task that does nothing."""
    from assistant.bench.jobs import measure_scheduler
    from assistant.jobs.engine import EngineName, engine_by_name

    kinds: list[tuple[EngineName, int]] = [("local", 1), ("local", 2)]
    if ray:
        kinds.append(("ray", 2))
    figures: dict[str, Any] = {"tasks": tasks}
    for name, workers in kinds:
        engine = engine_by_name(name, workers=workers)
        try:
            with remarks.status(f"Tasks through the engine {name} with {workers}"):
                report = measure_scheduler(engine, tasks)
        finally:
            engine.close()
        figures[f"{name}_{workers}_us_per_task"] = round(report.task_us, 1)
    _show("The cost of a task", figures, json)
