"""Acoustic features: the log-mel spectrogram that Whisper was trained on."""
