"""The fixture, in a pytest run of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def run(pytester, monkeypatch):
    """Run a test file with the plugin named, whether installed or not."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(source):
        pytester.makepyfile(source)
        return pytester.runpytest("-p", "lionlite.testing.plugin", "--strict-markers")

    return run


def test_the_fixture_is_started_and_closed(run):
    result = run(
        """
        import socket
        from urllib.parse import urlsplit
        import pytest

        kept = []

        def test_it_listens(lionlite_provider):
            kept.append(urlsplit(lionlite_provider.base_url).port)
            socket.create_connection(("127.0.0.1", kept[0]), timeout=5).close()

        def test_it_was_closed():
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", kept[0]), timeout=5)
        """
    )

    result.assert_outcomes(passed=2)


def test_the_marker_says_what_it_is_made_of(run):
    result = run(
        """
        import pytest

        @pytest.mark.lionlite_provider("hello", model="little", max_requests=3)
        def test_it(lionlite_provider):
            assert lionlite_provider.model == "little"
            assert lionlite_provider.report().max_requests == 3
        """
    )

    result.assert_outcomes(passed=1)


def test_loading_the_plugin_loads_nothing_heavy():
    script = (
        "import sys, lionlite.testing.plugin;"
        "print(*{'httpx', 'tiktoken', 'pyrate_limiter', 'msgspec', 'tqdm'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stdout) == (0, "\n")
