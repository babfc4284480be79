"""Extract: the sound of the source, once as recognition wants it and once for the mix."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from assistant.jobs.content import read_json, write_json
from assistant.jobs.dub.lines import Record
from assistant.jobs.dub.source import Block, SourceSound, open_source
from audio.errors import AudioError
from audio.media import DEFAULT_LIMITS, MediaLimits
from audio.pcm import SAMPLE_RATE
from audio.resample import Resampler

__all__ = ["Extracted", "extract", "open_source", "read_extracted"]

#: Files of the stage: 16 kHz mono for recognition; own rate, one or two channels, for the mix.
SPEECH_FILE, SOUND_FILE, FACTS_FILE = "speech.flac", "sound.flac", "facts.json"

_GATHER = 1 << 16  # samples that are written at once


@dataclass(frozen=True)
class Extracted(Record):
    """What is known of a source.

    duration_ms: of its sound; rate, channels: of sound.flac; source_channels: before the mix down;
    damaged_packets: that could not be decoded; filled_ms: of silence in their place, and before
    sound that begins late.
    """

    duration_ms: int
    has_picture: bool
    rate: int
    channels: int
    source_channels: int
    damaged_packets: int
    filled_ms: int


def extract(source: Path, folder: Path, limits: MediaLimits = DEFAULT_LIMITS) -> Extracted:
    """Decode the first audio track into ``folder``, in little memory however long it is.

    speech.flac is 16 kHz mono with 16 bits, sound.flac has 24 bits; both begin at the source's
    time 0 and keep its time. Raises AudioError for a file without sound, or beyond the limits.
    """
    sound = SourceSound(Path(source), limits)
    with ExitStack() as files:
        speech = files.enter_context(_flac(folder / SPEECH_FILE, SAMPLE_RATE, 1, "PCM_16"))
        whole = files.enter_context(
            _flac(folder / SOUND_FILE, sound.rate, sound.channels, "PCM_24")
        )
        stream = Resampler.between(sound.rate, SAMPLE_RATE).stream()
        for block in _gathered(sound.blocks()):
            whole.write(block)
            speech.write(stream.push(block.mean(axis=1, dtype=np.float32)))
        speech.write(stream.finish())
    if not sound.samples:
        raise AudioError(f"{source} holds no sound: its audio track has a length of 0 s")
    facts = Extracted(
        duration_ms=sound.samples * 1000 // sound.rate,
        has_picture=sound.has_picture,
        rate=sound.rate,
        channels=sound.channels,
        source_channels=sound.source_channels,
        damaged_packets=sound.damaged,
        filled_ms=sound.filled * 1000 // sound.rate,
    )
    write_json(folder / FACTS_FILE, facts.to_dict())
    return facts


def read_extracted(folder: Path) -> Extracted:
    """The facts that ``extract`` wrote into a folder."""
    return Extracted.from_dict(read_json(folder / FACTS_FILE))


def _flac(path: Path, rate: int, channels: int, subtype: str) -> soundfile.SoundFile:
    """A file to write samples (n, channels) into."""
    return soundfile.SoundFile(path, "w", rate, channels, subtype, format="FLAC")


def _gathered(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same sound in long blocks, within -1..1."""
    waiting: list[Block] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += len(block)
        if held >= _GATHER:
            yield np.clip(np.concatenate(waiting), -1, 1)
            waiting, held = [], 0
    if held:
        yield np.clip(np.concatenate(waiting), -1, 1)
