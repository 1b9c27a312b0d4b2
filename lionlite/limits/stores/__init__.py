"""One budget for many processes: SQLite on one machine, Redis between hosts.

Holds: the stores, and what a process does with one. Does not hold: the budget
of a single process (limits/), retries or HTTP. `lionlite.limits.shared` is
the way in.
"""
