"""The input audio buffer: the newest sound of a stream, by its places in the stream."""

from collections import deque

import numpy as np

from audio.pcm import Samples


class SoundBuffer:
    """Sound that came in and was not committed yet. Places are samples since the stream began."""

    def __init__(self) -> None:
        self._pieces: deque[Samples] = deque()
        #: The first sample that is kept, and the one after the last.
        self.begin = self.end = 0

    def __len__(self) -> int:
        return self.end - self.begin

    def push(self, samples: Samples) -> None:
        """Sound (n,) that follows."""
        self._pieces.append(samples)
        self.end += len(samples)

    def drop(self, until: int) -> None:
        """Forget what was before sample `until`."""
        until = min(until, self.end)
        while self._pieces and self.begin + len(self._pieces[0]) <= until:
            self.begin += len(self._pieces.popleft())
        if self._pieces and self.begin < until:
            # A copy, so that a long piece does not stay in memory for its last samples.
            self._pieces[0] = self._pieces[0][until - self.begin :].copy()
            self.begin = until

    def since(self, begin: int) -> Samples:
        """The sound from sample `begin` on, or from where it is still kept."""
        skip = max(begin - self.begin, 0)
        whole = np.concatenate([np.empty(0, np.float32), *self._pieces])
        return whole[skip:]
