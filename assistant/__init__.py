"""The product: models, configuration, the assistant itself and its command line."""
