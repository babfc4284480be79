"""What a client's turn detection means for our turn taking."""

from dataclasses import replace

from assistant.server.realtime.choices import SemanticVad, ServerVad, TurnDetection
from audio.turn import Patience, TurnConfig

# Below the threshold by so much, speech is over: as Silero's own examples do.
_HYSTERESIS = 0.15
_LEAST = 0.01
#: An answer is prepared after so much silence, if the turn does not end sooner.
_MAYBE_MS = 200

_DEFAULT = TurnConfig()
#: How long to wait by eagerness; the API promises at most 8, 4 and 2 s, and so do these.
_PATIENCE = {
    "low": Patience(finished_ms=960, open_ms=1280, hanging_ms=4000),
    "medium": _DEFAULT.done,
    "high": Patience(finished_ms=320, open_ms=420, hanging_ms=800),
}


def turn_config(detection: TurnDetection | None) -> TurnConfig:
    """Our thresholds for a client's; without turn detection they only find out what is speech.

    `server_vad` waits for a fixed silence, whatever the words are. `semantic_vad` waits longer
    where the words call for more, and for its eagerness.
    """
    match detection:
        case ServerVad():
            silence = detection.silence_duration_ms
            maybe = min(silence, _MAYBE_MS)
            return TurnConfig(
                speech_on=detection.threshold,
                speech_off=max(min(_LEAST, detection.threshold), detection.threshold - _HYSTERESIS),
                pre_roll_ms=detection.prefix_padding_ms,
                maybe_done=Patience(maybe, maybe, maybe),
                done=Patience(silence, silence, silence),
            )
        case SemanticVad():
            done = _PATIENCE.get(detection.eagerness, _DEFAULT.done)
            soonest = _DEFAULT.maybe_done
            maybe_done = Patience(
                min(soonest.finished_ms, done.finished_ms),
                min(soonest.open_ms, done.open_ms),
                min(soonest.hanging_ms, done.hanging_ms),
            )
            return replace(_DEFAULT, maybe_done=maybe_done, done=done)
    return _DEFAULT
