"""Voices that speak a dub: each tells exactly how long a line will be before it makes the sound."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Protocol
from unicodedata import category

import numpy as np
import torch

from assistant.errors import ConfigError
from audio.pcm import Samples
from audio.speech_text import SplitRules, split_clauses
from audio.spoken_words import SpokenWord, sign_edges, written_words
from audio.tts import Reading, SpeakOptions, Voice
from audio.vits import pace_factor
from audio.voice_config import PAD, START

# Nobody waits for the first piece: a line is cut only where a sentence ends.
_WHOLE = SplitRules(first_clause=240, clause=240)
# Of the voice's own silence is left: before the first phoneme, after the last, and on either side
# of a pause at a mark; between sentences there is a pause of this.
_LEAD_MS, _TAIL_MS, _PAUSE_MS, _SENTENCE_MS = 30, 10, 70, 130


@dataclass(frozen=True, eq=False)
class Said:
    """A spoken line: ``samples`` (n,) float32, and its words with their places in samples."""

    samples: Samples
    words: tuple[SpokenWord, ...]


class DubVoice(Protocol):
    """A voice whose pace is chosen, and whose length is known before its sound."""

    @property
    def name(self) -> str:
        """What it is called in reports; holds no path."""
        ...

    @property
    def sample_rate(self) -> int:
        """Samples per second of what it says."""
        ...

    def measure(self, text: str, rate: float, seed: int) -> int:
        """How many samples ``say`` would give for the same arguments; 0 for nothing to say."""
        ...

    def say(self, text: str, rate: float, seed: int) -> Said:
        """The text at ``rate`` times the voice's own pace; the same seed, the same sound.

        A pause that the voice trims lasts the same at any rate.
        """
        ...


@dataclass(frozen=True)
class _Part:
    """A clause as it is read, the pause before it, and what of its sound is kept, in order."""

    reading: Reading
    pause: int
    spans: tuple[tuple[int, int], ...]

    @property
    def length(self) -> int:
        """Samples, the pause included."""
        return self.pause + sum(end - begin for begin, end in self.spans)

    def place(self, at: int) -> int:
        """Where a place in the clause's sound comes to lie."""
        return self.pause + sum(min(max(at, begin), end) - begin for begin, end in self.spans)


@dataclass(frozen=True)
class PiperVoice:
    """The assistant's own voice: durations come before the sound, so measuring is cheap."""

    voice: Voice
    name: str

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.voice.sample_rate

    def measure(self, text: str, rate: float, seed: int) -> int:
        """Samples of the text without making its sound (about 50 ms of work for a line)."""
        return sum(part.length for part in self._parts(text, rate, seed))

    def say(self, text: str, rate: float, seed: int) -> Said:
        """The text as sound, from its first phoneme to its last, with short pauses at marks."""
        samples, words, start = [np.zeros(0, np.float32)], list[SpokenWord](), 0
        for part in self._parts(text, rate, seed):
            sound = np.concatenate([chunk.samples for chunk in part.reading.chunks()])
            samples += [np.zeros(part.pause, np.float32)]
            samples += [sound[begin:end] for begin, end in part.spans]
            for word in part.reading.words:
                begin, end = (start + part.place(at) for at in (word.start, word.end))
                words.append(SpokenWord(word.text, begin, end))
            start += part.length
        return Said(np.concatenate(samples), tuple(words))

    def _parts(self, text: str, rate: float, seed: int) -> Iterator[_Part]:
        speaking = self.voice.start(SpeakOptions(rate=rate, seed=seed, split=_WHOLE))
        pause = 0
        for clause in split_clauses(text, _WHOLE):
            reading = speaking.read(clause)
            if reading is not None:
                yield _Part(reading, pause, self._spans(reading))
                pause = self.sample_rate * _SENTENCE_MS // 1000

    def _spans(self, reading: Reading) -> tuple[tuple[int, int], ...]:
        """What of a clause's sound is kept: all but the ends, and the middles of long pauses.

        A line whose sound is longer than its speech would end late by its plan and early by ear.
        """
        symbols, signs, durations = self.voice.config.symbols, reading.phonemes, reading.durations
        pad, head = len(symbols[PAD]), len(symbols[START]) + len(symbols[PAD])
        widths = [len(symbols[sign]) + pad if sign in symbols else 0 for sign in signs]
        edges = [reading.pause + edge for edge in sign_edges(durations, widths, head)]
        sounding = [at for at, sign in enumerate(signs) if category(sign)[0] not in "PZ"]
        first, last = sounding[0], sounding[-1]
        after = head + sum(widths[: last + 1])
        end = edges[last + 1] - sum(durations[after - pad : after]) + self._samples(_TAIL_MS)
        total = reading.pause + sum(durations)
        begin, kept = max(reading.pause, edges[first] - self._samples(_LEAD_MS)), []
        for before, following in pairwise(sounding):
            low, high = edges[before + 1], edges[following]
            if high - low > 2 * self._samples(_PAUSE_MS):
                kept.append((begin, low + self._samples(_PAUSE_MS)))
                begin = high - self._samples(_PAUSE_MS)
        return (*kept, (begin, min(end, total)))

    def _samples(self, ms: int) -> int:
        return self.sample_rate * ms // 1000


class MmsVoice:
    """A VITS voice of transformers from a local folder: MMS has one for a thousand languages.

    Source: ``VitsModel`` and ``VitsTokenizer`` (Pratap et al. 2023, arXiv 2305.13516).
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self.name = name
        self._hop = int(np.prod(model.config.upsample_rates))

    @classmethod
    def load(cls, folder: Path) -> "MmsVoice":
        """Load a folder such as facebook/mms-tts-deu; ConfigError for one that is no such voice."""
        from transformers import VitsModel, VitsTokenizer

        try:
            tokenizer = VitsTokenizer.from_pretrained(folder, local_files_only=True)
            model = VitsModel.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"Expected a VITS voice of transformers in {folder}, which cannot be loaded: "
                f"{str(error).splitlines()[0]}"
            ) from None
        if tokenizer.phonemize or tokenizer.is_uroman:
            needs = "espeak-ng phonemes" if tokenizer.phonemize else "text romanised by uroman"
            raise ConfigError(
                f"The voice in {folder} reads {needs}, which is not built in; "
                "choose an MMS voice that reads the letters of its language."
            )
        return cls(model, tokenizer, folder.name)

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return int(self._model.config.sampling_rate)

    def measure(self, text: str, rate: float, seed: int) -> int:
        """Samples of the text: encoder and durations run, flow and vocoder do not."""
        return sum(self._durations(self._ids(text), rate, seed)[0]) * self._hop

    def say(self, text: str, rate: float, seed: int) -> Said:
        """The text as sound."""
        ids = self._ids(text)
        if not ids.shape[1]:
            return Said(np.zeros(0, np.float32), ())
        durations, own_rate = self._durations(ids, rate, seed)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = self._model(ids, speaking_rate=own_rate).waveform[0]
        samples = made.float().numpy()[: sum(durations) * self._hop]
        return Said(samples, self._words(text, durations))

    def _ids(self, text: str) -> torch.Tensor:
        ids = torch.tensor([self._tokenizer(text)["input_ids"]], dtype=torch.long)
        spoken = self._tokenizer.prepare_for_tokenization(text)[0]
        return ids if spoken.strip() else ids[:, :0]

    def _durations(self, ids: torch.Tensor, rate: float, seed: int) -> tuple[list[int], float]:
        """Frames of each token at a pace, and the model's speaking rate that gives it.

        The model's own first steps, which draw the same random numbers.
        """
        if not ids.shape[1]:
            return [], 1.0
        model = self._model
        mask = torch.ones(1, 1, ids.shape[1])
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoded = model.text_encoder(input_ids=ids, padding_mask=mask.mT, return_dict=True)
            hidden = encoded.last_hidden_state.transpose(1, 2)
            if model.config.use_stochastic_duration_prediction:
                scale = model.noise_scale_duration
                logs = model.duration_predictor(hidden, mask, None, reverse=True, noise_scale=scale)
            else:
                logs = model.duration_predictor(hidden, mask, None)
        own_rate = 1.0 / pace_factor(torch.exp(logs).flatten(), rate)
        frames = torch.ceil(torch.exp(logs) * mask * (1.0 / own_rate)).long().flatten().tolist()
        return [int(count) for count in frames], own_rate

    def _words(self, text: str, durations: Sequence[int]) -> tuple[SpokenWord, ...]:
        """The written words: spaces in what is read part them, else time is shared by length."""
        edges = [self._hop * frames for frames in (0, *accumulate(durations))]
        signs = self._tokenizer.prepare_for_tokenization(text)[0]
        read = [found.start() for found in re.finditer(r"\S*\w\S*", signs)]
        written = written_words(text)
        each = len(durations) // max(1, len(signs))  # 2 where blanks part the signs
        if len(read) == len(written):
            starts = [0, *(edges[each * at] for at in read[1:])]
        else:
            sizes = [0, *accumulate(len(word) for word in written)]
            starts = [edges[-1] * size // max(1, sizes[-1]) for size in sizes[:-1]]
        ends = [*starts[1:], edges[-1]]
        return tuple(
            SpokenWord(word, start, end)
            for word, start, end in zip(written, starts, ends, strict=True)
        )


def load_voice(folder: Path) -> DubVoice:
    """The voice in a folder: Piper's format (.onnx) or transformers' VITS (config.json)."""
    if (folder / "config.json").is_file() and not any(folder.glob("*.onnx")):
        return MmsVoice.load(folder)
    return PiperVoice(Voice.load(folder), folder.name)


def assign_voices(
    speakers: Sequence[str], voices: Sequence[str], chosen: Mapping[str, str]
) -> dict[str, str]:
    """The voice of each speaker: as ``chosen``, else the voices in turn, in order of appearance.

    Args:
        speakers: the speaker of each line, in order; may repeat.
        voices: names of the voices that there are, at least one.
        chosen: speaker to voice, as the user wishes; its voices need not be among ``voices``.

    Raises:
        ConfigError: ``chosen`` names a speaker that nobody is.
    """
    known = list(dict.fromkeys(speakers))
    strange = sorted(set(chosen) - set(known))
    if strange:
        raise ConfigError(
            f"Expected a voice for a speaker of {', '.join(known)}, got one for {strange[0]!r}."
        )
    # A voice that somebody was given by name goes to others only when all are taken.
    free = [voice for voice in voices if voice not in chosen.values()] or list(voices)
    rest = [speaker for speaker in known if speaker not in chosen]
    return {**chosen, **{who: free[at % len(free)] for at, who in enumerate(rest)}}
