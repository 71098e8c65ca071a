"""Search a growing text for many phrases; each character is read once.

This is an Aho-Corasick automaton over the characters of all phrases. Its position is an
`AutomatonState`, so a text can be read in pieces, and again from an earlier place. The cost of a
piece depends only on its own length, not on the text before it or on the number of phrases."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class AutomatonState:
    """The position in a text. `state` is the automaton's state. `recent` has for each of the last
    characters whether it belongs to a word. `blank`: the last character is white space. `ending`: a
    phrase ends here, unless the next character continues a word."""

    state: int
    recent: bytes
    blank: bool = False
    ending: bool = False


class PhraseAutomaton:
    """Finds `phrases` as whole words, in any case and with any white space between words.

    Case folding is full: "STRASSE" is found in "straße".
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._lengths: list[tuple[int, ...]] = [()]  # of the phrases that end in each state
        self._back = [0]  # the state of the longest suffix that also begins a phrase
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
        """Read `text` after the position `before`. Returns the new position, None if a phrase is
        found."""
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
    """The form in which a character is compared, and whether it belongs to a word."""
    if character.isspace():
        return " ", False
    # The capital i with a dot and the small i without one.
    folded = "i" if character in "\u0130\u0131" else character.casefold()
    return folded, character.isalnum() or character == "_"
