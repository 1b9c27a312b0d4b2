"""`python -m lionlite` is `lionlite`."""

from __future__ import annotations

import sys

from lionlite.cli import main

if __name__ == "__main__":
    sys.exit(main())
