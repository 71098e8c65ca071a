"""Ways of asking that HTTP has: HEAD, whole URLs, trailing slashes, compressed bodies, ids."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .conftest import Running, Start, forever, running, scripted

CHAT = "/v1/chat/completions"
ASKED = {"messages": [{"role": "user", "content": "Q?"}], "seed": 1}
AS_JSON = {"content-type": "application/json"}
LIMIT = 4096


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(scripted({"a": forever("a"), "b": forever("b")}), max_body=LIMIT) as served:
        yield served


@pytest.fixture(scope="module")
def http(server: Running) -> Iterator[httpx.Client]:
    with server.http() as client:
        yield client


def raw(server: Running, request: str) -> tuple[int, str, bytes]:
    """Status, head and body of the reply to a request as it is written."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        reply = b""
        while part := connection.recv(65536):
            reply += part
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), body


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/v1/models/a", "/metrics"])
def test_head_is_get_without_the_body(http: httpx.Client, path: str) -> None:
    head, got = http.head(path), http.get(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":  # which counts
        assert head.headers["content-length"] == str(len(got.content))


def test_head_of_what_is_not_there(http: httpx.Client) -> None:
    assert http.head("/nowhere").status_code == 404
    assert http.head(CHAT).status_code == 405


def test_the_list_of_models_may_end_with_a_slash(http: httpx.Client) -> None:
    assert http.get("/v1/models/").json() == http.get("/v1/models").json()
    assert http.get("/v1/models/nobody").status_code == 404


def test_a_request_line_may_have_the_whole_url(server: Running, start: Start) -> None:
    for target, status in (
        ("http://localhost/v1/models", 200),
        ("HTTP://127.0.0.1:80/v1/models?x=1", 200),
        ("http://localhost", 200),
        ("http://localhost/nowhere", 404),
    ):
        line = f"GET {target} HTTP/1.1\nHost: elsewhere.example\nConnection: close\n\n"
        found, _, body = raw(server, line)
        assert found == status, target
        if "models" in target:
            assert json.loads(body)["data"][0]["id"] == "team"
    # Its host is what counts, not the header.
    line = "GET http://rebound.example/v1/models HTTP/1.1\nHost: localhost\nConnection: close\n\n"
    assert raw(server, line)[0] == 403
    guarded = start(scripted({"a": forever("a"), "b": forever("b")}), api_keys=("k",))
    line = "GET http://localhost/v1/models HTTP/1.1\nHost: localhost\nConnection: close\n\n"
    assert raw(guarded, line)[0] == 401


def compressed(http: httpx.Client, content: bytes, encoding: str = "gzip") -> httpx.Response:
    return http.post(CHAT, content=content, headers={**AS_JSON, "content-encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "identity"])
def test_a_body_may_be_compressed(http: httpx.Client, encoding: str) -> None:
    body = json.dumps(ASKED).encode()
    sent = body if encoding == "identity" else gzip.compress(body)
    told = compressed(http, sent, encoding).json()["choices"][0]["message"]
    assert told == http.post(CHAT, json=ASKED).json()["choices"][0]["message"]


def test_a_compressed_body_may_come_in_pieces(http: httpx.Client) -> None:
    body = json.dumps(ASKED).encode()
    several = gzip.compress(body[:20]) + gzip.compress(body[20:])

    def pieces() -> Iterator[bytes]:
        for at in range(len(several)):
            yield several[at : at + 1]

    headers = {**AS_JSON, "content-encoding": "gzip"}
    assert http.post(CHAT, content=pieces(), headers=headers).status_code == 200


def test_what_is_decompressed_is_bounded(http: httpx.Client) -> None:
    padded = ASKED | {"user": "x"}
    space = LIMIT - len(json.dumps(padded).encode())
    most = json.dumps(padded) + " " * space
    assert compressed(http, gzip.compress(most.encode())).status_code == 200
    for more in (1, 100_000_000):
        bomb = gzip.compress((most + " " * more).encode())
        reply = compressed(http, bomb[:LIMIT])  # as much of it as a body may have
        assert reply.status_code == 413
        error = reply.json()["error"]
        assert error["code"] == "request_too_large"
        assert error["message"] == f"a request may have at most {LIMIT} bytes decompressed"


def test_what_is_no_gzip_is_refused(http: httpx.Client) -> None:
    whole = gzip.compress(json.dumps(ASKED).encode())
    for wrong in (
        b"",
        b"{}",
        whole[:-1],
        whole[:10],
        whole + b"?",
        whole[:-8] + b"\0" * 8,  # a wrong checksum
        zlib.compress(b"{}"),
    ):
        reply = compressed(http, wrong)
        assert reply.status_code == 400, wrong
        assert reply.json()["error"]["code"] == "invalid_encoding"


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "é", "x" * 300])
def test_another_encoding_is_named(http: httpx.Client, encoding: str) -> None:
    headers = {**AS_JSON, "content-encoding": encoding.encode()}
    reply = http.post(CHAT, content=b"x", headers=headers)
    assert reply.status_code == 415
    assert reply.headers["accept-encoding"] == "gzip"
    error = reply.json()["error"]
    assert error["code"] == "unsupported_encoding"
    assert "send the body as it is, or with gzip" in error["message"]


def test_a_request_keeps_its_client_s_id(
    http: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("taketurns.server")
    log.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "taketurns.server")
    try:
        reply = http.post(CHAT, json=ASKED, headers={"x-request-id": "trace-1/a"})
        assert reply.headers["x-request-id"] == "trace-1/a"
        assert reply.json()["id"] == "chatcmpl-trace-1/a"
        assert http.get("/nowhere", headers={"x-request-id": "n"}).headers["x-request-id"] == "n"
        # vLLM's field, where the header does not say it.
        named = http.post(CHAT, json=ASKED | {"request_id": "body-1"})
        assert (named.json()["id"], named.headers["x-request-id"]) == ("chatcmpl-body-1", "body-1")
        both = http.post(CHAT, json=ASKED | {"request_id": "b"}, headers={"x-request-id": "h"})
        assert both.headers["x-request-id"] == "h"
        streamed = http.post(CHAT, json=ASKED | {"stream": True}, headers={"x-request-id": "s-1"})
        assert streamed.headers["x-request-id"] == "s-1"
        assert '"id": "chatcmpl-s-1"' in streamed.text
    finally:
        log.removeHandler(caplog.handler)
    fields = [getattr(record, "fields", {}) for record in caplog.records]
    seen = {entry.get("id") for entry in fields}
    assert {"trace-1/a", "n", "body-1", "h", "s-1"} <= seen


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "tab\tin it"])
def test_an_id_that_a_log_cannot_hold_is_not_taken(http: httpx.Client, given: str) -> None:
    headers: dict[Any, Any] = {b"x-request-id": given.encode()}
    made = http.get("/health", headers=headers).headers["x-request-id"]
    assert made != given
    assert len(made) == 32
