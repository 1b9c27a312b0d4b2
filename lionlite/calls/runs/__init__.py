"""A mapping call with an outcome for each item, and its tables."""
