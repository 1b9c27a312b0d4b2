"""The pytest plugin: the fixture `lionlite_provider`.

Holds: the fixture and its marker. Does not hold: anything heavy, as pytest
loads this file in every run of everyone who has lionlite installed. The only
module that imports pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lionlite.testing.provider import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKER = "lionlite_provider(reply, **options): what the fixture lionlite_provider is made of"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, for runs with --strict-markers."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def lionlite_provider(request: pytest.FixtureRequest) -> Iterator[FakeProvider]:
    """A started `FakeProvider`, closed after the test.

    It answers "ok" unless the test scripts it, or is marked with the
    arguments of `FakeProvider`:

    ```python
    @pytest.mark.lionlite_provider("hello", max_requests=3)
    def test_it(lionlite_provider): ...
    ```
    """
    marker = request.node.get_closest_marker("lionlite_provider")
    args, options = (marker.args, marker.kwargs) if marker else ((), {})
    with FakeProvider(*args, **options) as provider:
        yield provider
