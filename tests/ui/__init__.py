"""The page and its client, in a real browser."""
