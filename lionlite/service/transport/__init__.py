"""Bytes to a provider and back: the one door to httpx, httpcore and httptools."""
