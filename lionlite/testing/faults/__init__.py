"""What can go wrong between a client and its provider, and the bytes that make it so."""
