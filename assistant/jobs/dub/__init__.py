"""Dubbing: a video or a recording spoken in another language, line by line, in its own time."""
