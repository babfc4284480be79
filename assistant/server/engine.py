"""What all sessions and requests of a process share: the models and the threads they run in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assistant.config import Settings

if TYPE_CHECKING:
    # The model libraries take seconds to import, and a test's engine needs none of them.
    from assistant.answering import Workers
    from assistant.loading import Models
    from assistant.models import PullProgress
    from assistant.session import Parts
    from assistant.writing import Writer


@dataclass(frozen=True)
class Engine:
    """One set of models for all sessions of a process."""

    models: "Models"
    workers: "Workers"
    parts: "Parts"
    writer: "Writer"

    @classmethod
    def load(
        cls,
        settings: Settings,
        progress: "PullProgress | None" = None,
        remark: Callable[[str], None] | None = None,
    ) -> "Engine":
        """Fetch what is missing, load every model and use each once; takes seconds.

        Args:
            settings: which models.
            progress: told of downloads.
            remark: told in words of work that takes more than a moment.

        Raises:
            VoxsightError and the rooms' errors: a model is missing, damaged or does not fit.
        """
        from assistant.answering import Workers
        from assistant.live import live_parts
        from assistant.loading import Models
        from assistant.writing import Writer

        models = Models(settings, progress, remark)
        models.fetch_all()
        workers = Workers.start()
        try:
            parts = live_parts(models, workers)
            writer = Writer(models.decoder, models.prompt_builder)
            writer.prepare()
            return cls(models, workers, parts, writer)
        except BaseException:
            workers.close()
            raise

    def close(self) -> None:
        """Wait for the calls that run and end the threads."""
        self.workers.close()
