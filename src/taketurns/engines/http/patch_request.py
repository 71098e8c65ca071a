"""A patch while servers write it: its part so far, and the request for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any

from taketurns.checkpoints.control_tokens import RenderedPrompt
from taketurns.checkpoints.text import StopFilter
from taketurns.engines.base import OnToken
from taketurns.engines.http.client import Client
from taketurns.engines.http.faults import RetryableError
from taketurns.engines.http.fleet import ModelServers, RequestCounters
from taketurns.engines.http.formats import format_field
from taketurns.engines.http.protocol import Piece, PromptUsage, read_piece
from taketurns.engines.http.requests import ServerCapabilities, writing_request
from taketurns.errors import UnavailableError
from taketurns.types import HANDED_OVER, Completion, Finish, Sampling, SamplingOptions, Token
from taketurns.utils.seeds import derive

_MOST_TOLD = 20  # most probable tokens per position; what a vLLM server allows by default
_LAST_WORDS = 1.0  # seconds for a stream to end after its last token


@dataclass(eq=False)
class PatchRequest:
    """A patch after `prompt`; `on_token` sees each of its tokens once. Its draws depend on `seed`
    and the position, so another attempt from the same position draws the same."""

    served: ModelServers
    prompt: Sequence[int]
    sampling: Sampling
    on_token: OnToken | None
    seed: int

    def __post_init__(self) -> None:
        sampling, info = self.sampling, self.served.info
        self._tokens: list[Token] = []
        self._text = ""
        self._parts = 0  # events with text
        self._scores: tuple[float, ...] | None = None
        self._usages: list[PromptUsage] = []
        self._finish: Finish | None = None
        self._criterion = sampling.stopping
        self._over: Finish | None = None  # why the patch ends, once its last token is known
        self._hidden = False  # a stream left out tokens, so the rest is requested without one
        self._asked = replace(sampling, logprobs=_told(sampling, self.served.abilities))
        options = sampling.options
        self._ends = info.end_token_ids.union(sampling.stop_token_ids, options.stop_token_ids)
        self._end: Token | None = None
        self._writes_on = False  # the server does not know the token that ended the patch
        self._stops = StopFilter(sampling.stop, sampling.written)
        special = not options.skip_special_tokens
        self._reader = info.codec.stream(self.prompt, special=special)

    async def go_on(self, client: Client, url: str, seconds: float, token_seconds: float) -> None:
        """Request the rest of the patch from the server at `url`. The request may take `seconds`,
        and each token of a stream `token_seconds` after the one before. Raises RetryableError if
        the server fails; the tokens received until then are kept."""
        clock = asyncio.get_running_loop().time
        latest = clock() + seconds
        body = self._request()
        if body is None:
            self._finish = self._over or "length"  # only the server's finish reason was missing
        elif body.get("stream"):
            await self._stream(client, url, body, seconds, token_seconds)
            if self._hidden and self._finish is None:
                await self.go_on(client, url, max(0.0, latest - clock()), token_seconds)
        else:
            reply = await client.post(url, body, self.served.key, seconds)
            self._take(self._read(reply))
        if self._finish is None:
            raise RetryableError("the reply ended before the patch did")

    def completion(self) -> Completion:
        """The whole patch, once `go_on` has raised no RetryableError."""
        assert self._finish is not None, "the patch is not whole"
        by_ids = self.served.abilities.token_ids
        logprobs = None
        if by_ids and self.sampling.logprobs is not None:
            known = tuple(t.logprob for t in self._tokens if t.logprob is not None)
            logprobs = known if len(known) == len(self._tokens) else None
        return Completion(
            token_ids=tuple(token.id for token in self._tokens if token.id is not None),
            finish=self._finish,
            text=None if by_ids else self._text,
            logprobs=logprobs,
            prompt_tokens=len(self.prompt),
            cached_tokens=self._usages[0].cached if self._usages else 0,
            scores=self._scores,
            end=self._end,
        )

    def count(self, counters: RequestCounters) -> None:
        """Add the written and the read tokens to `counters`."""
        counters.written_tokens += len(self._written())
        for usage in self._usages:
            counters.read(usage)

    def _request(self) -> dict[str, Any] | None:
        """The body of the next request; None if the patch is complete. It asks for a stream if
        `on_token` is given, or if a stop string or a criterion may end the patch early.

        A server reports log-probabilities only at positions where it writes a token. The choices
        after the patch need those of the next position, so one token more is requested and dropped.

        llama.cpp does not stream a token that ends inside a character; it sends the whole character
        with the next token. If a stream leaves out a token, the rest of the patch is requested
        without a stream, which has all ids. Draws restart at that position, and they do so with and
        without `on_token`, because the first request to llama.cpp always streams."""
        written = self._written()
        left = 0 if self._over is not None else self.sampling.max_tokens - len(written)
        left += bool(self.sampling.choices)
        if left <= 0:
            return None
        body = writing_request(
            self.served.abilities,
            self.served.info,
            self._so_far(written),
            replace(self._asked, max_tokens=left, options=self._options_after(len(written))),
            derive(self.seed, len(self.prompt) + len(written)),
            stream=not self._hidden
            and (
                self.served.abilities.verbose
                or self.on_token is not None
                or bool(self.sampling.stop)
                or self._criterion is not None
            ),
        )
        if (constraint := self.sampling.constraint) is not None:
            patch = self.served.info.codec.decode(written)
            body |= format_field(constraint, patch.encode("utf-8", "ignore"))
        return body

    def _options_after(self, written: int) -> SamplingOptions:
        """Those of a request that goes on after so many tokens of the patch."""
        options = self.sampling.options
        if not options.min_tokens:
            return options
        return replace(options, min_tokens=max(0, options.min_tokens - written))

    def _so_far(self, written: list[int]) -> list[int]:
        """The prompt and the part `written` after it. Some tokenizers put a space before a first
        word, so the text is tokenised together with the prompt's text, if that gives the prompt's
        ids again."""
        if self.served.abilities.token_ids or not self._text:
            return [*self.prompt, *written]
        codec = self.served.info.codec
        begin = list(self.prompt[:1]) if self.prompt[0] == codec.tokenizer.bos_token_id else []
        rest = list(self.prompt[len(begin) :])
        before = RenderedPrompt(codec.spell(rest))
        if codec.encode_rendered(before) != rest:
            return [*self.prompt, *written]
        return begin + codec.encode_rendered(before.followed_by(self._text, codec.control_pattern))

    def _written(self) -> list[int]:
        if not self.served.abilities.token_ids:
            return self.served.info.codec.encode(self._text) if self._text else []
        return [token.id for token in self._tokens if token.id is not None]

    async def _stream(
        self,
        client: Client,
        url: str,
        body: dict[str, Any],
        seconds: float,
        token_seconds: float,
    ) -> None:
        """Read a stream. Only a token moves the time limit, and the first event, which ends the
        wait in the server's queue. A stream of events without tokens times out like silence."""
        clock = asyncio.get_running_loop().time
        latest, seen, begun = clock() + seconds, 0, False
        try:
            async with client.stream(url, body, self.served.key, seconds) as (events, limit):
                async for event in events:
                    piece = self._read(event)
                    ended = self._finish is not None
                    if (piece.tokens or piece.text) and (ended or self._has_all()):
                        self._finish = self._finish or "length"
                        return  # the server would continue
                    seen += len(piece.tokens)
                    if self._finish is None and piece.written is not None and piece.written > seen:
                        self._hidden = True
                        return
                    self._take(piece)
                    cut = self._writes_on or self._finish in HANDED_OVER - {"length"}
                    if self._stops.stopped or cut:
                        return  # the server would continue
                    if self._finish is None:
                        if piece.tokens or piece.text or not begun:
                            limit.reschedule(min(latest, clock() + token_seconds))
                    elif not ended:
                        # Read the stream to its end, so that the connection can be reused.
                        limit.reschedule(min(latest, clock() + _LAST_WORDS))
                    begun = True
        except RetryableError:
            if self._finish is None:
                raise

    def _has_all(self) -> bool:
        """Whether the text of a server without token ids has the patch's full length. The number of
        events is no measure: an event may have less than a token, and the server's tokens may
        differ from those of the tokenizer here."""
        if self.served.abilities.token_ids or self._parts < self.sampling.max_tokens:
            return False
        return len(self._written()) >= self.sampling.max_tokens

    def _read(self, data: Any) -> Piece:
        info = self.served.info
        try:
            return read_piece(data, self.served.abilities, info.codec.size, self._asked)
        except UnavailableError as error:
            raise UnavailableError(f"{info.name}: {error}") from error

    def _take(self, piece: Piece) -> None:
        """Add a part of a reply, up to the end of the patch. Raises RetryableError if the server
        ended the patch too early."""
        if piece.usage is not None:
            self._usages.append(piece.usage)
        for index, token in enumerate(piece.tokens):
            if self._finish is not None:
                return
            if self._over is not None:
                self._scores, self._finish = piece.scores[index], self._over
                return
            self._take_token(token)
        if piece.text and self._finish is None:
            self._take_text(piece.text)
        if piece.finish == "stop" and self._finish is None:
            self._finish = self._over or "stop"
        if piece.finish == "length" and self._finish is None:
            if self.served.abilities.token_ids:
                raise RetryableError(
                    f"the server ended a patch of {self.sampling.max_tokens} tokens after "
                    f"{len(self._tokens)}"
                )
            self._finish = "length"  # the server may count other tokens

    def _take_token(self, token: Token) -> None:
        assert token.id is not None
        criterion, wanted = self._criterion, self.sampling.logprobs
        weighed = criterion is not None and criterion.entropy and token.top
        if criterion is not None and weighed and criterion.should_stop(_entropy(token), None):
            self._finish = criterion.finish  # the patch ends before this token, which is dropped
            return
        if self._asked.logprobs != wanted:
            token = Token(token.id) if wanted is None else replace(token, top=token.top[:wanted])
        assert token.id is not None
        if token.id in self._ends:
            self._finish, self._end = "stop", token
            known = not self.served.abilities.verbose or token.id in self.served.info.end_token_ids
            self._writes_on = not known
            return
        if self.sampling.stop:
            ending = len(self._tokens) >= self.sampling.options.min_tokens
            self._stops.push(self._reader.push(token.id), looking=ending)
        self._tokens.append(token)
        if self.on_token is not None:
            self.on_token(token)
        if self._stops.stopped:
            self._finish = "stop"
            return
        if criterion is not None and criterion.on_token(token):
            self._over = criterion.finish
        elif len(self._tokens) >= self.sampling.max_tokens:
            self._over = "length"
        if not self.sampling.choices:
            self._finish = self._over

    def _take_text(self, text: str) -> None:
        self._text += text
        self._parts += 1
        self._stops.push(text)
        if self.on_token is not None:
            self.on_token(Token(None, text))
        if self._stops.stopped:
            self._finish = "stop"
        elif self._criterion is not None and self._criterion.on_token(Token(None, text)):
            self._finish = self._criterion.finish


def _told(sampling: Sampling, abilities: ServerCapabilities) -> int | None:
    """The number of log-probabilities to request: those of `sampling`, and for an entropy as many
    as the server reports."""
    if sampling.stopping is None or not sampling.stopping.entropy:
        return sampling.logprobs
    most = _MOST_TOLD if abilities.exact_scores else min(abilities.top_logprobs, _MOST_TOLD)
    return max(sampling.logprobs or 0, most)


def _entropy(token: Token) -> float:
    """The entropy in nats of the distribution at a token, from the reported log-probabilities. The
    rest of the probability counts as one token, so the true entropy may be higher."""
    listed = [exp(logprob) for _, logprob in token.top]
    rest = max(0.0, 1.0 - sum(listed))
    return -sum(p * log(p) for p in (*listed, rest) if p > 0)
