"""The budgets of requests and tokens that all calls of one service share.

Holds: the accounting, the queue of waiting threads, and the readers of rate
limit headers. Does not hold: retries, HTTP, or the counting of tokens. The
only rooms that import pyrate_limiter are in here.
"""
