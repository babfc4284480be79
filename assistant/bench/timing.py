"""Times several ways to do one thing in turn, so that a noisy machine is noisy for all of them."""

import statistics
import time
from collections.abc import Callable, Mapping

#: Between two timed runs: a thread pool goes on spinning for a while, and would slow the next one.
REST_S = 0.05


def interleaved(
    cases: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    rest_s: float = 0.0,
    calls: int = 1,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Median seconds of one call of each case, after one round that is not counted.

    Args:
        cases: what to time; each round calls every case once, in the order given.
        rounds: how many values each median is over.
        rest_s: pause before each timed run; ``REST_S`` where cases use thread pools of their own.
        calls: calls per timed run, for cases shorter than the clock's noise.
        progress: told 1 after every round, the first one included.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, call in cases.items():
            if rest_s:
                time.sleep(rest_s)
            begun = time.perf_counter()
            for _ in range(calls):
                call()
            took = (time.perf_counter() - begun) / calls
            if number:
                times[name].append(took)
        if progress is not None:
            progress(1)
    return {name: statistics.median(values) for name, values in times.items()}
