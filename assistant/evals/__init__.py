"""Measurements: every claim about quality has a command here that makes the figure."""
