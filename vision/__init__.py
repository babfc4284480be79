"""Pictures: safe decoding and image encoders."""
