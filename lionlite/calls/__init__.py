"""Mapping functions over threads. Knows nothing of LLMs."""
