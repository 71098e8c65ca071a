"""A patch while servers write it: its part so far, and the request for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from taketurns.checkpoints.control_tokens import RenderedPrompt
from taketurns.engines.base import OnToken
from taketurns.engines.http.client import Client
from taketurns.engines.http.faults import RetryableError
from taketurns.engines.http.fleet import ModelServers, RequestCounters
from taketurns.engines.http.formats import format_field
from taketurns.engines.http.protocol import Piece, PromptUsage, read_piece
from taketurns.engines.http.requests import ServerCapabilities, writing_request
from taketurns.engines.logprobs_gate import Kind
from taketurns.engines.patch_tokens import MOST_LISTED, PatchTokens, weighs
from taketurns.errors import UnavailableError
from taketurns.types import HANDED_OVER, Completion, Sampling, SamplingOptions, Token
from taketurns.utils.seeds import derive

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
        listed = _listed(sampling, self.served.abilities)
        self._patch = PatchTokens(info, self.prompt, sampling, self.on_token, listed)
        self._text = ""
        self._parts = 0  # events with text
        self._usages: list[PromptUsage] = []
        self._criterion = sampling.stopping
        self._hidden = False  # a stream left out tokens, so the rest is requested without one
        self._asked = replace(sampling, logprobs=listed)

    @property
    def kind(self) -> Kind:
        """Which log-probabilities its requests ask a server for that reports given ones."""
        if not self.served.abilities.exact_scores:
            return "plain"
        if self._asked.choices:
            return "given"
        return "plain" if self._asked.logprobs is None else "top"

    async def go_on(self, client: Client, url: str, seconds: float, token_seconds: float) -> None:
        """Request the rest of the patch from the server at `url`. The request may take `seconds`,
        and each token of a stream `token_seconds` after the one before. Raises RetryableError if
        the server fails; the tokens received until then are kept."""
        clock = asyncio.get_running_loop().time
        latest = clock() + seconds
        body = self._request()
        if body is None:
            # Only the server's finish reason was missing.
            self._patch.finish = self._patch.over or "length"
        elif body.get("stream"):
            await self._stream(client, url, body, seconds, token_seconds)
            if self._hidden and self._patch.finish is None:
                await self.go_on(client, url, max(0.0, latest - clock()), token_seconds)
        else:
            reply = await client.post(url, body, self.served.key, seconds)
            self._take(self._read(reply))
        if self._patch.finish is None:
            raise RetryableError("the reply ended before the patch did")

    def completion(self) -> Completion:
        """The whole patch, once `go_on` has raised no RetryableError."""
        assert self._patch.finish is not None, "the patch is not whole"
        by_ids = self.served.abilities.token_ids
        return Completion(
            token_ids=tuple(self._patch.ids),
            finish=self._patch.finish,
            text=None if by_ids else self._text,
            logprobs=self._patch.logprobs if by_ids else None,
            prompt_tokens=len(self.prompt),
            cached_tokens=self._usages[0].cached if self._usages else 0,
            scores=self._patch.scores,
            end=self._patch.end,
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
        left = 0 if self._patch.over is not None else self.sampling.max_tokens - len(written)
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
        return self._patch.ids

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
                    ended = self._patch.finish is not None
                    if (piece.tokens or piece.text) and (ended or self._has_all()):
                        self._patch.finish = self._patch.finish or "length"
                        return  # the server would continue
                    seen += len(piece.tokens)
                    written = piece.written
                    if self._patch.finish is None and written is not None and written > seen:
                        self._hidden = True
                        return
                    self._take(piece)
                    cut = self._writes_on or self._patch.finish in HANDED_OVER - {"length"}
                    if self._patch.stops.stopped or cut:
                        return  # the server would continue
                    if self._patch.finish is None:
                        if piece.tokens or piece.text or not begun:
                            limit.reschedule(min(latest, clock() + token_seconds))
                    elif not ended:
                        # Read the stream to its end, so that the connection can be reused.
                        limit.reschedule(min(latest, clock() + _LAST_WORDS))
                    begun = True
        except RetryableError:
            if self._patch.finish is None:
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
            self._patch.take(token, piece.scores[index] if piece.scores else None)
        if piece.text and self._patch.finish is None:
            self._take_text(piece.text)
        if piece.finish == "stop" and self._patch.finish is None:
            self._patch.finish = self._patch.over or "stop"
        if piece.finish == "length" and self._patch.finish is None:
            if self.served.abilities.token_ids:
                raise RetryableError(
                    f"the server ended a patch of {self.sampling.max_tokens} tokens after "
                    f"{len(self._patch.tokens)}"
                )
            self._patch.finish = "length"  # the server may count other tokens

    @property
    def _writes_on(self) -> bool:
        """Whether the server does not know the token that ended the patch."""
        end = self._patch.end
        known = self.served.info.end_token_ids
        return end is not None and self.served.abilities.verbose and end.id not in known

    def _take_text(self, text: str) -> None:
        self._text += text
        self._parts += 1
        self._patch.stops.push(text)
        if self.on_token is not None:
            self.on_token(Token(None, text))
        if self._patch.stops.stopped:
            self._patch.finish = "stop"
        elif self._criterion is not None and self._criterion.on_token(Token(None, text)):
            self._patch.finish = self._criterion.finish


def _listed(sampling: Sampling, abilities: ServerCapabilities) -> int | None:
    """The number of log-probabilities to request: those of `sampling`, and for an entropy as many
    as the server reports."""
    if not weighs(sampling.stopping):
        return sampling.logprobs
    most = MOST_LISTED if abilities.exact_scores else min(abilities.top_logprobs, MOST_LISTED)
    return max(sampling.logprobs or 0, most)
