"""The web application: its addresses and their functions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from taketurns import __version__
from taketurns.errors import TakeTurnsError
from taketurns.server.anthropic.counting import count_tokens
from taketurns.server.anthropic.output import MessageBuilder
from taketurns.server.anthropic.schemas import CountTokensRequest, MessagesRequest
from taketurns.server.anthropic.translation import PLACES as MESSAGE_PLACES
from taketurns.server.anthropic.translation import chat_request as message_as_chat
from taketurns.server.body_decoding import BodyDecoding
from taketurns.server.error_forms import error_body
from taketurns.server.errors import ApiError, as_api_error, unknown_address
from taketurns.server.field_places import named_as
from taketurns.server.middleware import (
    AccessLog,
    ApiKeyCheck,
    BodyDrain,
    BodyLimit,
    FramingCheck,
    HostCheck,
    PlainRequests,
    is_loopback,
)
from taketurns.server.openai_responses.output import OpenAIResponseBuilder
from taketurns.server.openai_responses.schemas import ResponsesRequest
from taketurns.server.openai_responses.translation import PLACES as RESPONSE_PLACES
from taketurns.server.openai_responses.translation import chat_request as response_as_chat
from taketurns.server.openai_responses.translation import conversation
from taketurns.server.responses import ChatStyle, ResponseBuilder, TextStyle
from taketurns.server.schemas import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
)
from taketurns.server.serving import Serving
from taketurns.server.tokens import detokenize, tokenize
from taketurns.server.validation import validation_error

_PAGE = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": what}
    for status, what in {
        400: "The request is not valid",
        401: "The API key is missing or wrong",
        403: "The request's Host header has a name that is not allowed",
        404: "There is no such model",
        408: "The request did not arrive in time",
        413: "The request is too large",
        415: "The body is compressed in a way that is not known here",
        429: "Too many requests are waiting; Retry-After says when to try again",
        500: "A model failed; the body has the text written so far",
        503: "Loading, shutting down, or the answer did not start in time",
        504: "The answer exceeded the time limit",
    }.items()
}


def make_app(serving: Serving) -> FastAPI:
    """The application that serves `serving`; closing it releases the models."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await serving.close()

    app = FastAPI(
        title="taketurns",
        version=__version__,
        summary="Checkpoints take turns writing one answer, behind the OpenAI API.",
        docs_url=None,  # these pages would load scripts from other sites
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_answers(app, serving)
    _add_messages(app, serving)
    _add_responses(app, serving)
    _add_operations(app, serving)
    if serving.config.page:
        _add_page(app)
    _add_errors(app)
    _add_middleware(app, serving)
    return app


def _add_answers(app: FastAPI, serving: Serving) -> None:
    @app.post("/v1/chat/completions", responses=_ERRORS, response_model=None)
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        builder = partial(ResponseBuilder, request=body, style=ChatStyle())
        return await serving.respond(body, request, builder)

    @app.post("/v1/completions", responses=_ERRORS, response_model=None)
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Continue a text."""
        builder = partial(ResponseBuilder, request=body, style=TextStyle())
        return await serving.respond(body, request, builder)

    @app.get("/v1/models/", include_in_schema=False)
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The team, then each of its candidates."""
        return {"object": "list", "data": await serving.models()}

    @app.get("/v1/models/{model:path}", responses={404: _ERRORS[404]})
    async def model(model: str) -> dict[str, Any]:
        """One model."""
        name = serving.registry.find(model).name
        return next(entry for entry in await serving.models() if entry["id"] == name)

    @app.post("/tokenize", responses=_ERRORS)
    async def to_tokens(body: TokenizeRequest) -> dict[str, Any]:
        """Token ids of a text or a conversation."""
        return await tokenize(body, serving.registry)

    @app.post("/detokenize", responses=_ERRORS)
    async def to_text(body: DetokenizeRequest) -> dict[str, Any]:
        """The text of token ids."""
        return await detokenize(body, serving.registry)


def _add_messages(app: FastAPI, serving: Serving) -> None:
    @app.post("/v1/messages", responses=_ERRORS, response_model=None)
    async def messages(body: MessagesRequest, request: Request) -> Response:
        """Answer a conversation, by Anthropic's API."""
        with named_as(MESSAGE_PLACES):
            return await serving.respond(message_as_chat(body), request, MessageBuilder)

    @app.post("/v1/messages/count_tokens", responses=_ERRORS)
    async def count(body: CountTokensRequest) -> dict[str, int]:
        """The number of tokens of a conversation, by Anthropic's API."""
        return {"input_tokens": await count_tokens(body, serving.registry)}


def _add_responses(app: FastAPI, serving: Serving) -> None:
    store = serving.responses

    @app.post("/v1/responses", responses=_ERRORS, response_model=None)
    async def respond(body: ResponsesRequest, request: Request) -> Response:
        """Answer a conversation, by OpenAI's Responses API."""
        with named_as(RESPONSE_PLACES):
            turns = conversation(body, store)
            builder = partial(OpenAIResponseBuilder, request=body, history=turns, store=store)
            return await serving.respond(response_as_chat(body, turns), request, builder)

    @app.get("/v1/responses/{response_id}", responses={404: _ERRORS[404]}, response_model=None)
    async def retrieve(response_id: str) -> Response:
        """A response that is stored."""
        return Response(store.response(response_id), media_type="application/json")

    @app.delete("/v1/responses/{response_id}", responses={404: _ERRORS[404]})
    async def delete(response_id: str) -> dict[str, Any]:
        """Delete a response that is stored."""
        store.delete(response_id)
        return {"id": response_id, "object": "response", "deleted": True}


def _add_operations(app: FastAPI, serving: Serving) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process is running."""
        return {"status": "ok"}

    @app.get("/health/ready", responses={503: {"description": "Requests are not served"}})
    async def ready(response: Response) -> dict[str, str]:
        """Whether requests are served."""
        response.status_code = 200 if serving.state == "ready" else 503
        return {"status": serving.state}

    @app.get("/version")
    async def version() -> dict[str, str]:
        """The version of taketurns."""
        return {"version": __version__}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(serving.metrics.text(), media_type=serving.metrics.content_type)


def _add_page(app: FastAPI) -> None:
    folder = files("taketurns.server") / "page"
    scripts = [file.name for file in folder.iterdir() if file.name.endswith(".js")]
    media_types = _PAGE | dict.fromkeys(scripts, "text/javascript; charset=utf-8")

    def endpoint(name: str) -> Callable[[], Any]:
        content = (folder / name).read_bytes()
        headers = {"cache-control": "no-cache", "content-type": media_types[name]}

        async def send() -> Response:
            return Response(content, headers=headers)

        return send

    app.get("/", include_in_schema=False)(endpoint("index.html"))
    for name in media_types:
        app.get(f"/page/{name}", include_in_schema=False)(endpoint(name))


def _add_errors(app: FastAPI) -> None:
    async def respond(request: Request, error: Exception) -> Response:
        api_error = _api_error(error, request.scope["path"])
        request.scope["taketurns"] |= api_error.fields()
        body = error_body(api_error, request.scope["path"])
        return JSONResponse(body, api_error.status_code, api_error.headers)

    for kind in (TakeTurnsError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, respond)


def _api_error(error: Exception, path: str) -> ApiError:
    if isinstance(error, RequestValidationError):
        return validation_error(error.errors(), error.body)
    if isinstance(error, HTTPException) and not isinstance(error, ApiError):
        if error.status_code == 404:
            return unknown_address(path)
        return ApiError(error.status_code, str(error.detail), headers=error.headers)
    return as_api_error(error)


def _add_middleware(app: FastAPI, serving: Serving) -> None:
    """Add the middleware; the last one added is the outermost."""
    config = serving.config
    open_paths = {"/", "/health", "/health/ready", "/version"}
    if config.open_metrics:
        open_paths.add("/metrics")
    app.add_middleware(BodyDecoding, limit=config.max_body)
    app.add_middleware(BodyLimit, limit=config.max_body, seconds=config.stall)
    app.add_middleware(ApiKeyCheck, keys=config.api_keys, open_paths=frozenset(open_paths))
    if config.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],  # clients in browsers send extra headers
            expose_headers=["retry-after", "x-request-id", "x-should-retry"],
        )
    if not config.api_keys and is_loopback(config.host):
        app.add_middleware(HostCheck, allowed=config.allowed_hosts)
    app.add_middleware(FramingCheck)
    app.add_middleware(PlainRequests)
    refused = serving.metrics.refused
    app.add_middleware(AccessLog, count_error=lambda code: refused.labels(code).inc())
    app.add_middleware(BodyDrain, seconds=config.stall)
