"""Counting tokens, and never failing or waiting because of it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from lionlite import tokens
from lionlite.exceptions import ConfigError
from lionlite.tokens import ESTIMATE, TokenCounter, encoding_for_model, estimate_text

RANKS = Path(__file__).resolve().parents[3] / "shared" / "tiktoken"

needs_ranks = pytest.mark.skipif(
    not RANKS.is_dir(), reason="the tokenizer ranks do not lie beside the project"
)


class FakeEncoding:
    """Says 7 for everything, and what it was asked."""

    def __init__(self):
        self.asked = []

    def encode_ordinary(self, text):
        self.asked.append(text)
        return [0] * 7


@pytest.fixture
def fake(monkeypatch):
    encoding = FakeEncoding()
    monkeypatch.setattr(tokens, "load_encoding", lambda name, may_download: encoding)
    return encoding


@pytest.fixture
def counter(fake):
    counter = TokenCounter("o200k_base")
    assert counter.wait_until_loaded(10)
    return counter


@pytest.fixture
def no_ranks(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))


def exact(name):
    counter = TokenCounter(name, may_download=False)
    assert counter.wait_until_loaded(30)
    return counter


def warnings_in(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-5", "o200k_base"),
        ("gpt-5.6-mini", "o200k_base"),
        ("gpt-6-sol", "o200k_base"),
        ("gpt-4o", "o200k_base"),
        ("gpt-4o-mini-2024-07-18", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-4.5-preview", "o200k_base"),
        ("gpt-4-5", "o200k_base"),
        ("ft:gpt-4.1-mini:acme::x", "o200k_base"),
        ("ft:gpt-4o:acme::x", "o200k_base"),
        ("openai/gpt-4o", "o200k_base"),
        ("openai/gpt-oss-120b:free", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("codex-mini-latest", "o200k_base"),
        ("o1-mini", "o200k_base"),
        ("o3", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("gpt-4-32k", "cl100k_base"),
        ("ft:gpt-4-0613:acme::x", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("openai/gpt-3.5-turbo", "cl100k_base"),
        ("mistral-large", ESTIMATE),
        ("anthropic/claude-opus-4.5", ESTIMATE),
        ("llama3", ESTIMATE),
        ("ollama-gpt-4", ESTIMATE),
        ("", ESTIMATE),
    ],
)
def test_each_model_has_its_encoding(model, encoding):
    assert encoding_for_model(model) == encoding


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("ü" * 4, 2), ("\ud800", 1)],
)
def test_an_estimate_is_a_quarter_of_the_bytes_rounded_up(text, count):
    assert estimate_text(text) == count


def test_the_encoding_named_estimate_loads_nothing(fake, caplog):
    counter = TokenCounter(ESTIMATE)

    assert (counter.count_text("a" * 40), counter.wait_until_loaded(0)) == (10, False)
    assert (counter.encoding_name, warnings_in(caplog)) == (ESTIMATE, [])


def test_messages_cost_what_the_chat_format_adds(counter):
    messages = [
        {"role": "system", "content": "a"},
        {"role": "user", "name": "bob", "content": None},
    ]

    assert counter.count_messages(messages) == 3 + (3 + 7 + 7) + (3 + 7 + 7 + 1 + 0)


def test_parts_tool_calls_and_numbers_are_counted(counter):
    messages = [
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "hi"}],
            "tool_calls": ({"id": "1", "index": 0},),
        }
    ]

    assert counter.count_messages(messages) == 3 + 3 + 7 + (7 + 7) + (7 + 1)


def test_an_image_costs_a_constant_not_its_base64(counter):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 90_000}}

    assert counter.count_messages([{"content": [image]}]) == 3 + 3 + tokens.TOKENS_PER_IMAGE


def test_each_text_is_counted_once(counter, fake):
    history = [{"role": "user", "content": f"message {n}"} for n in range(5)]

    for _ in range(3):
        counter.count_messages(history)

    assert sorted(fake.asked) == [
        "message 0",
        "message 1",
        "message 2",
        "message 3",
        "message 4",
        "user",
    ]


def test_counts_of_huge_texts_are_not_kept(counter, fake):
    text = "x" * (tokens.MAX_CACHED_TEXT_CHARS + 1)

    counter.count_text(text)
    counter.count_text(text)

    assert fake.asked == [text, text]


def test_the_counts_kept_are_bounded(counter, fake, monkeypatch):
    monkeypatch.setattr(tokens, "MAX_CACHED_TEXTS", 2)

    for text in ("a", "b", "c", "c", "a"):
        counter.count_text(text)

    assert fake.asked == ["a", "b", "c", "a"]


def test_a_huge_text_is_counted_in_pieces(counter, fake, monkeypatch):
    monkeypatch.setattr(tokens, "MAX_PIECE_CHARS", 4)

    count = counter.count_text("abcdefghi")

    assert (count, fake.asked) == (21, ["abcd", "efgh", "i"])


def test_a_count_never_waits_for_the_loading(monkeypatch, fake):
    loading, release = threading.Event(), threading.Event()

    def slow(name, *, may_download):
        loading.set()
        release.wait(30)
        return fake

    monkeypatch.setattr(tokens, "load_encoding", slow)
    counter = TokenCounter("o200k_base")
    began_s = time.monotonic()

    first, second = counter.count_text("a" * 40), counter.count_text("a" * 44)
    took_s = time.monotonic() - began_s
    assert loading.wait(10)
    early = counter.wait_until_loaded(0.01)
    release.set()
    loaded = counter.wait_until_loaded(10)

    assert (first, second, early, loaded) == (10, 11, False, True)
    assert took_s < 5
    assert counter.count_text("a" * 40) == 7


def test_the_encoding_is_loaded_once_for_all_threads(monkeypatch, fake):
    loads = []

    def load(name, *, may_download):
        loads.append((name, may_download))
        return fake

    monkeypatch.setattr(tokens, "load_encoding", load)
    counter, together = TokenCounter("cl100k_base", may_download=False), threading.Barrier(16)

    def count():
        together.wait()
        counter.count_text("x")

    threads = [threading.Thread(target=count) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.wait_until_loaded(10)

    assert loads == [("cl100k_base", False)]


def test_a_missing_file_means_estimates_and_one_warning(no_ranks, caplog):
    counter = TokenCounter("o200k_base", may_download=False)

    assert counter.wait_until_loaded(10) is False
    counts = [counter.count_text("a" * 40) for _ in range(5)]

    assert counts == [10] * 5
    assert warnings_in(caplog) == [
        (
            "Token counts are estimates (4 bytes a token): the encoding o200k_base could not be "
            "loaded (FileNotFoundError)."
        )
    ]


def test_an_unknown_encoding_means_estimates_and_one_warning(no_ranks, caplog):
    counter = TokenCounter("no_such_base")

    assert counter.wait_until_loaded(30) is False

    assert counter.count_text("a" * 40) == 10
    assert len(warnings_in(caplog)) == 1


def test_no_more_threads_means_estimates_and_one_warning(monkeypatch, caplog):
    def start(self):
        msg = "can't start new thread"
        raise RuntimeError(msg)

    counter = TokenCounter("o200k_base")
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", start)
        counts = [counter.count_text("a" * 40) for _ in range(2)]

    assert (counts, counter.wait_until_loaded(0)) == ([10, 10], False)
    assert len(warnings_in(caplog)) == 1


@pytest.mark.parametrize("variable", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR", None])
def test_the_cache_is_looked_for_where_tiktoken_does(monkeypatch, tmp_path, variable):
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tokens.tempfile, "gettempdir", lambda: str(tmp_path))
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
    folder = tmp_path if variable else tmp_path / "data-gym-cache"

    assert tokens._cached_ranks("o200k_base") == folder / "fb374d419588a4632f3f557e76b4b70aebbca790"


@pytest.mark.parametrize("name", [None, "o200k_base", ESTIMATE])
def test_an_encoding_name_passes(name):
    assert tokens.checked_encoding_name(name) == name


@pytest.mark.parametrize("name", ["", "  ", 5, ["o200k_base"]], ids=repr)
def test_what_cannot_be_an_encoding_name_is_refused(name):
    with pytest.raises(ConfigError, match="token_encoding_name= takes the name of a tiktoken"):
        tokens.checked_encoding_name(name)


@needs_ranks
@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("o200k_base", "", 0),
        ("o200k_base", "hello world", 2),
        ("cl100k_base", "hello world", 2),
        ("o200k_base", "\ud800", 1),
    ],
    ids=["nothing", "o200k", "cl100k", "lone surrogate"],
)
def test_with_the_ranks_counts_are_exact(name, text, count):
    assert exact(name).count_text(text) == count


@needs_ranks
def test_special_tokens_in_a_users_text_are_only_text():
    assert exact("o200k_base").count_text("<|endoftext|>") > 1


@needs_ranks
def test_a_million_spaces_and_a_word_are_counted_all_the_same():
    """tiktoken 0.14 panics past its stack, with an error that is no Exception."""
    count = exact("o200k_base").count_text(" " * 1_000_001 + "word")

    assert 7_000 < count < 9_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_loads_for_itself_though_the_parents_lock_was_held(monkeypatch, fake):
    started, release = threading.Event(), threading.Event()

    def slow(name, *, may_download):
        started.set()
        release.wait(30)
        return fake

    monkeypatch.setattr(tokens, "load_encoding", slow)
    counter = TokenCounter("o200k_base")
    counter.count_text("x")
    assert started.wait(10)

    with counter._lock:
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            release.set()
            counter.count_text("x")
            os._exit(0 if counter.wait_until_loaded(5) else 1)
    status = os.waitpid(pid, 0)[1]
    release.set()

    assert (os.waitstatus_to_exitcode(status), counter.wait_until_loaded(10)) == (0, True)
