"""The HTTP resources of the API, one file each, as OpenAI's clients know them."""
