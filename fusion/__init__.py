"""Pictures meet language: adapters, prompt assembly and the language model decoder."""
