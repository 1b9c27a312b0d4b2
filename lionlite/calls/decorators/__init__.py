"""`cd`: functions that are retried, bounded, cached, throttled or composed."""
