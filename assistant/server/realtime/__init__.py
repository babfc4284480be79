"""The realtime API: what travels over its WebSocket, and the conversation behind it."""
