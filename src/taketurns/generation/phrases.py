"""Which of many phrases stand in a text that grows, each character of it read once.

An Aho-Corasick automaton over the characters of all phrases. Where it has got to is a
`AutomatonState`, so a text can be read in pieces, and from an earlier place again. What a piece
costs depends on its own length alone, not on that of the text before it nor on how many phrases
there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class AutomatonState:
    """How far a text was read. `state` is where the automaton is, `recent` says of the last
    characters whether each belongs to a word, and `blank` that the last one is white space.
    `ending` says that a phrase ends with the text, if no word goes on there."""

    state: int
    recent: bytes
    blank: bool = False
    ending: bool = False


class PhraseAutomaton:
    """Finds `phrases` as whole words, in whatever case and with any white space between words.

    Case is folded in full: "STRASSE" is found in "straße".
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._lengths: list[tuple[int, ...]] = [()]  # of the phrases that end in each state
        self._back = [0]  # to the longest ending of a state that begins a phrase too
        longest = max(map(self._add, phrases), default=0)
        self._link()
        self.start = AutomatonState(0, bytes(longest + 1))

    def _add(self, phrase: str) -> int:
        state, length = 0, 0
        for letters, _ in _units(" ".join(phrase.split())):
            for letter in letters:
                state = self._next[state].setdefault(letter, len(self._next))
                if state == len(self._next):
                    self._next.append({})
                    self._lengths.append(())
                    self._back.append(0)
                length += 1
        if length not in self._lengths[state]:
            self._lengths[state] += (length,)
        return length

    def _link(self) -> None:
        waiting = deque(self._next[0].values())
        while waiting:
            state = waiting.popleft()
            self._lengths[state] += self._lengths[self._back[state]]
            for letter, deeper in self._next[state].items():
                self._back[deeper] = self._step(self._back[state], letter)
                waiting.append(deeper)

    def _step(self, state: int, letter: str) -> int:
        while state and letter not in self._next[state]:
            state = self._back[state]
        return self._next[state].get(letter, 0)

    def read(self, before: AutomatonState, text: str) -> AutomatonState | None:
        """Read `text`, which goes on from what was read `before`; None where a phrase stands in
        it."""
        state, blank, ending = before.state, before.blank, before.ending
        words = bytearray(before.recent)
        for letters, word in _units(text):
            if letters == " ":
                if blank:
                    continue
                blank = True
            else:
                blank = False
            if ending and not word:
                return None
            for letter in letters:
                state = self._step(state, letter)
                words.append(word)
            end = len(words)
            ending = any(not words[end - length - 1] for length in self._lengths[state])
        recent = bytes(words[len(words) - len(before.recent) :])
        return AutomatonState(state, recent, blank, ending)


def _units(text: str) -> Iterator[tuple[str, bool]]:
    return map(_unit, text)


@lru_cache(maxsize=1 << 14)
def _unit(character: str) -> tuple[str, bool]:
    """What a character is compared as, and whether it belongs to a word."""
    if character.isspace():
        return " ", False
    # These two are an i with and without its dot, in one case each.
    folded = "i" if character in "\u0130\u0131" else character.casefold()
    return folded, character.isalnum() or character == "_"
