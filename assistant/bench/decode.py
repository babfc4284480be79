"""Measures the language model on this machine: speed, start and what quantisation costs."""

import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from assistant.assets import asset
from assistant.bench.timing import REST_S, interleaved
from assistant.config import Settings
from assistant.errors import VoxsightError
from assistant.loading import Models

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.decoder import Decoder, EmbeddedPrompt
    from fusion.network import Network

#: Long enough that no model ends its answer within the tokens that are timed.
_QUESTION = "Tell a long story about a lighthouse, with all that its keeper sees in one year."
#: Tokens of context at most, when the likelihood of a text is measured.
_WINDOW = 512
_PREFILLS = (40, 500)
_CHILD = "import sys; from assistant.bench.decode import say_ready; say_ready(sys.argv[1])"
_READY = "ready"


@dataclass(frozen=True)
class DecodeFigures:
    """Speeds beside transformers' ``generate`` in bf16; ``perplexity_increase`` is a fraction.

    ``prefill_ms`` and ``prefill_ms_transformers`` go by the prompt's number of tokens; ``start_s``
    is from the start of a process to its first token, with the model's cache made.
    """

    vs_transformers_bf16: float
    perplexity_increase: float
    start_s: float
    tokens_per_s: float
    tokens_per_s_transformers: float
    perplexity: float
    perplexity_bf16: float
    prefill_ms: dict[str, float]
    prefill_ms_transformers: dict[str, float]
    threads: int

    def summary(self) -> dict[str, Any]:
        """The figures by name, rounded for reading."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def measure_decode(
    settings: Settings,
    *,
    tokens: int = 32,
    rounds: int = 5,
    starts: int = 3,
    progress: Callable[[str], None] = lambda _: None,
) -> DecodeFigures:
    """Times the settings' language model and the same in bf16 by transformers, in turn.

    Args:
        settings: model, quantisation and threads; both models get the same threads.
        tokens: tokens to write after the first.
        rounds: rounds that count, after one that does not.
        starts: fresh processes that count, after one that does not.
        progress: told in words what is being done.
    """
    from fusion.decoder import Decoder
    from fusion.quantize import FEW_ROWS

    progress("loading the model twice")
    plain = Models(settings.model_copy(update={"quantization": "none"}), remark=progress)
    reference = Decoder.load(plain.language_model_folder(), threads=settings.threads)
    decoder = Models(settings, remark=progress).decoder
    progress(f"writing {tokens} tokens, {rounds} rounds")
    ours, theirs = _rates(decoder, reference, tokens, rounds)
    progress("reading prompts")
    prefills = [_prefills(decoder, reference, length, rounds) for length in _PREFILLS]
    progress("perplexity")
    text = asset("perplexity.txt").read_text(encoding="utf-8")
    # A quantised model reads long prompts with other products than those that write an answer.
    found, expected = perplexity(decoder, text, FEW_ROWS), perplexity(reference, text)
    progress("starting fresh processes")
    return DecodeFigures(
        vs_transformers_bf16=ours / theirs,
        perplexity_increase=found / expected - 1,
        start_s=start_seconds(settings, starts),
        tokens_per_s=ours,
        tokens_per_s_transformers=theirs,
        perplexity=found,
        perplexity_bf16=expected,
        prefill_ms={str(n): times[0] for n, times in zip(_PREFILLS, prefills, strict=True)},
        prefill_ms_transformers={
            str(n): times[1] for n, times in zip(_PREFILLS, prefills, strict=True)
        },
        threads=settings.threads,
    )


def _rates(
    decoder: "Decoder", reference: "Decoder", tokens: int, rounds: int
) -> tuple[float, float]:
    """Tokens per second after the first, greedy, of both; reading the prompt is not in it."""
    prompt = _prompt(decoder)
    cases: dict[str, Callable[[], object]] = {}
    for count in (1, 1 + tokens):
        cases[f"ours {count}"] = partial(_write, decoder, prompt, count)
        cases[f"theirs {count}"] = partial(_generate, reference, prompt, count)
    times = interleaved(cases, rounds, rest_s=REST_S)
    ours, theirs = (
        tokens / (times[f"{who} {1 + tokens}"] - times[f"{who} 1"]) for who in ("ours", "theirs")
    )
    return ours, theirs


def _prompt(decoder: "Decoder") -> "EmbeddedPrompt":
    from fusion.prompt import PromptBuilder, Turn

    return PromptBuilder(decoder).build([Turn("user", (_QUESTION,))])


def _write(decoder: "Decoder", prompt: "EmbeddedPrompt", count: int) -> None:
    from fusion.decoder import DecodeOptions

    stream = decoder.stream(prompt, DecodeOptions(max_tokens=count))
    for _ in stream:
        pass
    if stream.tokens != count:
        raise VoxsightError(
            f"Expected an answer of {count} tokens to time, but the model ended after "
            f"{stream.tokens}; ask for fewer tokens."
        )


def _generate(reference: "Decoder", prompt: "EmbeddedPrompt", count: int) -> None:
    import torch

    ids = prompt.input_ids[None]
    with torch.inference_mode():
        reference.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
        )


def _prefills(
    decoder: "Decoder", reference: "Decoder", length: int, rounds: int
) -> tuple[float, float]:
    """Milliseconds that both need for the logits after a prompt of `length` tokens."""
    import torch

    from fusion.decoder import EmbeddedPrompt

    ids = decoder.token_ids(asset("perplexity.txt").read_text(encoding="utf-8"))[:length]

    def read(who: "Decoder") -> None:
        who.prefill(EmbeddedPrompt(torch.tensor(ids), who.embed(ids)), who.new_cache())

    cases = {"ours": partial(read, decoder), "theirs": partial(read, reference)}
    times = interleaved(cases, rounds, rest_s=REST_S)
    return times["ours"] * 1e3, times["theirs"] * 1e3


def perplexity(decoder: "Decoder", text: str, step: int = _WINDOW) -> float:
    """Perplexity of ``text``, read ``step`` tokens at a time; context starts anew each window."""
    import torch

    ids = torch.tensor(decoder.token_ids(text))
    if len(ids) < 2:
        raise VoxsightError(f"Expected a text of two tokens or more, but got {text!r}.")
    starts = [*range(0, len(ids) - 1, _WINDOW), len(ids) - 1]
    with torch.inference_mode():
        lost = sum(_surprise(decoder.network, ids[a : b + 1], step) for a, b in pairwise(starts))
    return math.exp(lost / (len(ids) - 1))


def _surprise(network: "Network", ids: "Tensor", step: int) -> float:
    """Summed negative log likelihood, in nats, of all of ``ids`` (n,) but the first."""
    from torch.nn.functional import cross_entropy

    memory, lost = network.new_memory(), 0.0
    for start in range(0, len(ids) - 1, step):
        wanted = ids[start + 1 : start + 1 + step]
        given = ids[start : start + len(wanted)]
        logits = network.logits(network.embed(given), memory, keep=len(given))
        lost += float(cross_entropy(logits.float(), wanted, reduction="sum"))
    return lost


def start_seconds(settings: Settings, starts: int) -> float:
    """Median seconds from the start of a process to its first token, after one uncounted start."""
    return median([_start(settings) for _ in range(starts + 1)][1:])


def _start(settings: Settings) -> float:
    command = [sys.executable, "-c", _CHILD, settings.model_dump_json()]
    begun = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child:
        line = child.stdout.readline()
        took = time.perf_counter() - begun
        _, problem = child.communicate()
    if line.strip() != _READY:
        reason = (problem.strip().splitlines() or ["it said nothing"])[-1]
        raise VoxsightError(
            f"Expected a fresh process to answer, but it failed: {reason}. "
            "Run `voxsight ask` to see the whole error."
        )
    return took


def say_ready(settings: str) -> None:
    """The fresh process: loads the model of ``settings`` (JSON), and says so at its first token."""
    from fusion.decoder import DecodeOptions

    models = Models(Settings.model_validate_json(settings))
    prompt = models.prompt_builder.build(models.prompts.ask(_QUESTION, None))
    next(models.decoder.stream(prompt, DecodeOptions(max_tokens=8)))
    print(_READY, flush=True)
