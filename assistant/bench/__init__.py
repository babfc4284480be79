"""Benchmarks: every claim about speed has its command, and names the peer that it beats."""
