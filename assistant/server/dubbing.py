"""The work of one dubbing job: the library's dub with the server's models."""

from pathlib import Path

from assistant.loading import Models
from assistant.models import PullProgress
from assistant.server.dubs import Made, Step, Tell
from assistant.server.engine import Engine
from assistant.server.exchange import ExchangedModels

#: For servers whose own recogniser knows only English.
RECOGNISER = "whisper-base"


def dubbed(engine: Engine, source: Path, out: Path, language: str, tell: Tell) -> Made:
    """Dub one film; takes minutes.

    Raises:
        VoxsightError and the rooms' errors: it has no speech, cannot be read, a model is missing.
        Stopped: nobody wants it any more.
    """
    from assistant.jobs.dub.job import DubOptions, Progress, dub
    from assistant.jobs.dub.publish import PICTURE_FILE, REPORT_FILE, VTT_FILE

    def progress(now: Progress) -> None:
        tell(Step(now.stage, now.done, now.total))

    models = _models(engine.models)
    report = dub(source, out, DubOptions(language=language), models=models, progress=progress)
    folder = report.folder
    return Made(report.out, folder / VTT_FILE, folder / REPORT_FILE, folder / PICTURE_FILE)


def _models(own: Models) -> Models:
    """The server's models, with a recogniser of many languages; one more is let go afterwards."""
    if own.recogniser.multilingual:
        return own
    return ExchangedModels(own, {"recogniser": RECOGNISER}, PullProgress())
