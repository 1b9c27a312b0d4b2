"""How one call reaches a provider. Knows no conversation."""
