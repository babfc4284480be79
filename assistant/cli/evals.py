"""``voxsight eval``: every claim about quality has its command."""

from pathlib import Path
from typing import Annotated

import typer

from assistant.assets import asset
from assistant.cli.console import PullBars, counted, make_table, print_json, remarks, results
from assistant.config import load_settings
from assistant.loading import Models

app = typer.Typer(help="Measure quality on your own data.", no_args_is_help=True)

Data = Annotated[Path, typer.Option(help="Folder with the labelled data.")]
Json = Annotated[bool, typer.Option("--json", help="End with one line of JSON.")]
Details = Annotated[bool, typer.Option(help="Also print a line for each item.")]


@app.command()
def asr(
    data: Data,
    model: Annotated[str | None, typer.Option(help="Recogniser; see 'models list'.")] = None,
    beam: Annotated[int | None, typer.Option(help="Beam width; 1 is greedy.")] = None,
    details: Details = True,
    json: Json = False,
) -> None:
    """Word error rate over the recordings listed in DATA/transcripts.tsv (file, language, text)."""
    from assistant.evals.asr import AsrRow, evaluate_asr, read_transcripts
    from audio.asr_types import RecogniseOptions

    models = Models(load_settings(recogniser=model, recogniser_beam=beam), PullBars())
    name = models.settings.recogniser
    with counted(f"Recognising with {name}", len(read_transcripts(data))) as advance:

        def step(_: AsrRow) -> None:
            advance(1)

        options = RecogniseOptions(beam_size=models.settings.recogniser_beam)
        report = evaluate_asr(data, models.recogniser, name, step, options)
    table = make_table(
        f"{name}: WER {report.wer:.2%} over {len(report.rows)} files",
        *("file", "WER", "audio s", "took s", "heard"),
        numbers=("WER", "audio s", "took s"),
    )
    for row in report.rows:
        times = (f"{row.audio_s:.1f}", f"{row.seconds:.2f}")
        table.add_row(row.file, f"{row.wer:.1%}", *times, row.hypothesis)
    if details:
        results.print(table)
    if json:
        print_json(report.summary())


@app.command()
def tts(
    sentences: Annotated[
        Path | None, typer.Option(help="Text, one sentence a line; ours when left out.")
    ] = None,
    voice: Annotated[str | None, typer.Option(help="Voice; see 'models list'.")] = None,
    recogniser: Annotated[str, typer.Option(help="Who listens.")] = "whisper-base",
    threads: Annotated[int, typer.Option(min=1, help="Of both runtimes compared.")] = 1,
    details: Details = True,
    json: Json = False,
) -> None:
    """Speak sentences and recognise them back; compare samples and time with onnxruntime."""
    from assistant.evals.tts import SpokenRow, evaluate_tts, read_sentences

    texts = read_sentences(sentences or asset("eval_sentences.txt"))
    models = Models(load_settings(voice=voice, recogniser=recogniser), PullBars())
    file = next(models.folder(models.settings.voice).glob("*.onnx"))
    with counted("Speaking and listening", len(texts)) as advance:

        def step(_: SpokenRow) -> None:
            advance(1)

        report = evaluate_tts(
            *(texts, models.voice, file, models.recogniser),
            threads=threads,
            progress=step,
        )
    if details:
        table = make_table(
            f"WER {report.wer:.2%} over {len(report.rows)} sentences", "errors", "said", "heard"
        )
        for row in report.rows:
            if row.errors:
                table.add_row(str(row.errors), row.sentence.written, row.recognised)
        results.print(table)
        results.print(
            f"Time, ours / onnxruntime, threads {threads}: {report.parity.time_ratio:.2f}"
        )
    if json:
        print_json(report.summary())


@app.command()
def vision(
    data: Data,
    adapter: Annotated[str | None, typer.Option(help="Adapter file or 'dictionary'.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Image encoder.")] = None,
    language_model: Annotated[str | None, typer.Option(help="Language model.")] = None,
    images: Annotated[int, typer.Option(help="Size of the held-out split.")] = 160,
    all_questions: Annotated[bool, typer.Option(help="Ask all five ways of each.")] = False,
    details: Details = True,
    json: Json = False,
) -> None:
    """How often the streamed answer names what a held-out photo shows, and a blank one does not."""
    from assistant.evals.vision import VisionEvaluation, VisionOptions
    from vision.classes import read_class_names

    settings = load_settings(adapter=adapter, image_encoder=encoder, language_model=language_model)
    models = Models(settings, PullBars(), remarks.print)
    evaluation = VisionEvaluation(
        *(models.encoder, models.adapter, models.decoder, models.prompts),
        read_class_names(asset("imagenet_classes.tsv")),
    )
    with counted("Asking about pictures", 1) as advance:

        def step(_: int, total: int) -> None:
            advance(1, total)

        report = evaluation.run(
            data, VisionOptions(held_out=images, all_questions=all_questions), step
        )
    if details:
        table = make_table("Answers that missed", "file", "shows", "answer")
        for row in report.rows:
            if (row.label and not row.named) or (not row.label and not row.declined):
                table.add_row(row.file, row.label or "nothing", row.answer)
        results.print(table)
    if json:
        print_json(report.summary())


@app.command()
def dub(
    language: Annotated[
        list[str] | None, typer.Option(help="Of the recordings; may be repeated; default: all.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Recordings with transcripts.tsv in place of the sample speech."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Folder for the film, the dub and its report.")
    ] = None,
    details: Details = True,
    json: Json = False,
) -> None:
    """A film of recordings into English: fit, words understood, loudness, the same picture."""
    from tempfile import TemporaryDirectory

    from assistant.evals.dub import measure_dub

    models = Models(load_settings(recogniser="whisper-base"), PullBars(), remarks.print)
    with TemporaryDirectory() as scratch, remarks.status("Starting") as status:
        measured = measure_dub(
            models,
            keep or Path(scratch),
            data=data,
            languages=language,
            progress=lambda step: status.update(
                f"{step.stage.capitalize()}, {step.done} of {step.total}"
            ),
        )
    if details:
        table = make_table(
            "Lines, as they are in the written file",
            *("slot s", "end", "silent", "rate", "said", "heard"),
            numbers=("slot s", "end", "silent", "rate"),
        )
        for line in measured.lines:
            table.add_row(
                f"{(line.slot[1] - line.slot[0]) / 1000:.1f}",
                f"{line.end_error_ms:+d} ms",
                f"{line.silence_ms} ms",
                f"{line.rate:.2f}",
                line.wording,
                line.heard,
            )
        results.print(table)
        for key, value in measured.summary().items():
            results.print(f"{key}: {value}")
    if json:
        print_json(measured.summary())
