"""The public contract, as mypy --strict sees it. Nothing runs this file.

A line with `type: ignore` is a claim too: mypy must refuse it, or it would
report the comment as unused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, assert_type

import lionlite as ll
from lionlite import exceptions
from lionlite.conversation.messages import Message
from lionlite.records import Usage
from lionlite.testing import FAULTS, FakeProvider, FakeStream, FaultServer, WireFault

service = ll.Services.OpenAI()
assert_type(service, ll.Service)
assert_type(
    ll.Services.OpenAI(
        model="gpt-4o-mini",
        api_key="key",
        key_scheme="OPENAI_API_KEY",
        base_url="https://api.openai.com/v1",
        token_encoding_name="o200k_base",
        max_tokens=90_000,
        max_requests=500,
        interval=60,
        limits=None,
        timeout=30.0,
        max_retries=2,
        max_concurrency=None,
        headers={"X-Team": "a"},
        charge="adjust",
        allow_http=False,
    ),
    ll.Service,
)
ll.Services.OpenRouter(api_key=lambda: "key", max_tokens=None, max_requests=None)
ll.Services.Groq(limits={"requests": ["10/second", "500/minute"], "tokens": "90_000/minute"})
ll.Services.Mistral()
ll.Services.DeepSeek()
ll.Services.Ollama(model="llama3")
ll.Services.Compatible(base_url="http://localhost:8000/v1", timeout=None)
ll.Services.OpenAI(max_request=500)  # type: ignore[call-arg]
ll.Services.OpenAI(max_requests="500")  # type: ignore[arg-type]
ll.Services.OpenAI("key")  # type: ignore[call-arg]

assert_type(ll.default_service(), ll.Service)
ll.set_default_service(service)
ll.set_default_service(None)
with service as entered:
    assert_type(entered, ll.Service)
assert_type(service.send([{"role": "user", "content": "hi"}], temperature=0), ll.Reply)
assert_type(service.stats().calls, int)
service.cancel()
service.close()

session = ll.Session(
    "You are terse.",
    model="gpt-4o-mini",
    service=service,
    llmconfig={"temperature": 0, "seed": 0},
    messages=[{"role": "user", "content": "hi"}],
)
ll.Session()
ll.Session({"tone": "terse"})
ll.Session(servce=service)  # type: ignore[call-arg]
ll.Session(service="OpenAI")  # type: ignore[arg-type]

assert_type(session.chat("hi"), str)
assert_type(
    session.chat(
        {"if positive": "times 2"},
        context=[1, 2],
        branch="main",
        system="Sing.",
        remember=False,
        timeout=8.0,
        extra_body={"new": 1},
        extra_headers={"X-Trace": "1"},
        temperature=0,
    ),
    str,
)
session.chat()  # type: ignore[call-arg]
session.chat("hi", timeout="soon")  # type: ignore[arg-type]
reply = session.complete("hi", branch=session.default_branch, timeout=None)
assert_type(reply, ll.Reply)
assert_type(reply.text, str)
assert_type(reply.model, str)
assert_type(reply.usage, Usage | None)
assert_type(reply.cost, float | None)
assert_type(reply.finish_reason, str | None)
assert_type(reply.refusal, str | None)
assert_type(reply.reasoning, str | None)
assert_type(reply.tool_calls, tuple[dict[str, Any], ...])
assert_type(reply.request_id, str | None)
assert_type(reply.attempts, int)
assert_type(reply.waited_s, float)
assert_type(reply.elapsed_s, float)
assert_type(reply.raw, dict[str, Any])
reply.text = "changed"  # type: ignore[misc]

assert_type(session.default_branch, ll.Branch)
assert_type(session.branches, dict[str, ll.Branch])
assert_type(session.llmconfig, dict[str, Any])
assert_type(session.messages, list[Message])
assert_type(session.to_messages(), list[dict[str, Any]])
assert_type(session.last_reply, ll.Reply | None)
assert_type(session.usage, Usage)
assert_type(session.usage.total_tokens, int)
assert_type(session.new_branch(), ll.Branch)
assert_type(
    session.new_branch(
        "side", system="Sing.", model="m", service=service, llmconfig={"seed": 1}, messages=[]
    ),
    ll.Branch,
)
session.new_branch(nam="side")  # type: ignore[call-arg]
assert_type(session.get_branch("side"), ll.Branch)
session.change_default_branch("side")
session.delete_branch(session.get_branch("main"))

branch = ll.Branch("You are terse.", name="main", model="m", service=service, llmconfig={})
branch.llmconfig.update({"temperature": 0})
assert_type(branch.chat("hi"), str)
assert_type(branch.complete("hi"), ll.Reply)
assert_type(branch.name, str)
assert_type(branch.service, ll.Service)
assert_type(branch.system, Message | None)
message = Message("user", "hi")
assert_type(message.role, str)
assert_type(message.fields, Mapping[str, Any])
assert_type(message.to_dict(), dict[str, Any])


def workflow(number: int) -> tuple[str, str]:
    return session.chat("first", context=number), session.chat("second")


assert_type(ll.lcall([1, 2], workflow), list[tuple[str, str]])
assert_type(ll.alcall(range(3), workflow, max_workers=8), list[tuple[str, str]])
assert_type(ll.alcall([1], workflow, on_error="stop", progress=True), list[tuple[str, str]])
assert_type(ll.alcall([1], workflow, on_error="return"), list[tuple[str, str] | BaseException])
assert_type(ll.icall([1], workflow), Iterator[tuple[int, tuple[str, str]]])
assert_type(
    ll.icall([1], workflow, on_error="return"),
    Iterator[tuple[int, tuple[str, str] | BaseException]],
)
ll.alcall(["a"], workflow)  # type: ignore[arg-type]
ll.alcall([1], workflow, on_error="ignore")  # type: ignore[call-overload]

with ll.deadline(8) as scope:
    assert_type(scope.left_s, float)

error = ll.LionError("message", retryable=True)
assert_type(error.retryable, bool)
assert_type(error.fatal, bool)
assert_type(error.attempts, int)
assert_type(error.waited_s, float)
assert_type(error.retry_after_s, float | None)
assert_type(error.request_id, str | None)
assert_type(error.status, int | None)
ll.LionError("message", retriable=True)  # type: ignore[call-arg]
assert_type(ll.DeadlineExceeded().phase, str)
assert_type(ll.OutputError().reason, str)
assert_type(ll.OutputError().text, str)
assert_type(ll.CallError().results, list[Any])
assert_type(ll.CallError().failed, dict[int, BaseException])
assert_type(ll.Interrupted().results, list[Any])
assert_type(exceptions.RequestTooLarge().dimension, str)
assert_type(exceptions.RequestTooLarge().needed, int)
assert_type(exceptions.RequestTooLarge().limit, int)
assert_type(exceptions.StatusError().code, str | None)
assert_type(exceptions.ResponseError().body, str)
value_error: ValueError = ll.ConfigError()
timeout_error: TimeoutError = ll.DeadlineExceeded()
budget_timeout: TimeoutError = ll.BudgetTimeout()
ctrl_c: KeyboardInterrupt = ll.Interrupted()

with FakeProvider("hello", max_requests=10, interval_s=1.0) as provider:
    assert_type(provider, FakeProvider)
    assert_type(provider.service(max_requests=5), ll.Service)
    assert_type(provider.base_url, str)
FakeProvider(FakeStream(["Once ", "upon"], delay_s=0.1))
FakeProvider(["one", FakeStream(["two"])])
FakeStream(["one"], delay_s="slow")  # type: ignore[arg-type]

assert_type(FAULTS, Mapping[str, WireFault])
assert_type(FAULTS["status_503"].does, str)
with FaultServer(["rst_mid_body", FAULTS["status_503"]], pause_s=0.1) as server:
    assert_type(server, FaultServer)
    assert_type(server.service(max_retries=0), ll.Service)
    assert_type(server.base_url, str)
    assert_type(len(server.requests), int)
    server.play("status_429")
FaultServer(503)  # type: ignore[arg-type]
FAULTS["mine"] = FAULTS["status_503"]  # type: ignore[index]
