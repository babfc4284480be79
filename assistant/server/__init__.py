"""The server: OpenAI-compatible realtime WebSocket and HTTP in front of one set of models."""
