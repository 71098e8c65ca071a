"""Denied parts of a text: blanks in place of what the answer is not. The length stays the same.

English only: a clause that denies ("not Lyon", "rather than Lyon") is blanked, the clause after it
is kept ("…, it is Paris"). A hedge ("I'm not sure, but …") denies nothing.
"""

from __future__ import annotations

import re

APART = r"(?=\s*(?:[,.;:!?)—–-]|but\b|though\b|yet\b|$))"
BE = r"(?:am|are|is|was|were|be|['’]m|['’]re|['’]s)"
WHO = r"(?:i|we|you|they|it|one)"
HEDGES = re.compile(
    rf"\b(?:(?:if )?(?:i|we)\s*{BE}|though|but|while)?\s*\bnot\s+(?:\w+\s+){{0,2}}?"
    rf"(?:sure|certain|positive|confident|mistaken|wrong|an expert)"
    rf"(?: (?:about|of) (?:this|that|it))?{APART}"
    rf"|(?:\b{WHO}\s+)?\bdo(?:n['’]t| not) (?:really )?know"
    rf"(?: for (?:sure|certain)| exactly)?{APART}"
    rf"|(?:\b{WHO}\s+)?\bcan(?:['’]t|not| not) (?:be|say for) (?:\w+ )?(?:sure|certain){APART}"
    r"|\bnot (?:only|just|merely|simply|surprisingly|to mention)\b|\bnone other than\b|\bwhy not\b"
    r"|\b(?:no|without(?: a| any)?) (?:doubt|question)(?: about (?:it|that))?\b",
    re.IGNORECASE,
)
DENIAL = re.compile(
    rf"(?:\b{WHO}\s+)?\b(?:(?:not|never|neither|nor|cannot|rather than|instead of|other than"
    r"|except(?: for)?)\b|\w+n['’]t\b)",
    re.IGNORECASE,
)
SUBJECT = r"\s*(?:the |an? )?\S+(?: \S+){0,2}?\s+(?:is|are|was|were)"
REFUTED = re.compile(rf"{SUBJECT}(?:n['’]t|\s+not)\b.*", re.IGNORECASE | re.DOTALL)
FAULTED = re.compile(rf"{SUBJECT}\s+(?:wrong|incorrect|false)\b.*", re.IGNORECASE | re.DOTALL)
SENTENCES = re.compile(r"[.!?](?=\s|$)|\n")
CLAUSES = re.compile(
    r"[,;:—–()]|\s-\s|\b(?:but|because|since|while|whereas|although|so)\b", re.IGNORECASE
)
LISTED = re.compile(r"\s*(?:or|nor)\b", re.IGNORECASE)
FEW = 3  # words of an item in a list


def affirmed(text: str, *, verdicts: bool = True) -> str:
    """A text with blanks in place of denied parts and hedges, of the same length. Without
    `verdicts`, "X is wrong" denies nothing, because "wrong" may be the answer."""
    text = HEDGES.sub(lambda match: " " * len(match[0]), text)
    return "".join(_affirmed(part, verdicts) for part in _parts(SENTENCES, text))


def denies(text: str) -> bool:
    """Does a text contain a word of denial?"""
    return DENIAL.search(text) is not None


def _affirmed(sentence: str, verdicts: bool) -> str:
    clauses = _parts(CLAUSES, sentence)
    kept = [_unrefuted(clause, verdicts) for clause in clauses]
    for i, clause in enumerate(clauses):
        if i and LISTED.match(clause):  # "not Lyon, Nice or Paris" denies all of them
            before = next((j for j in range(i - 1, -1, -1) if kept[j] != clauses[j]), None)
            between = clauses[before + 1 : i] if before is not None else []
            if before is not None and all(_size(item) <= FEW for item in between):
                kept[before + 1 : i + 1] = [" " * len(item) for item in clauses[before + 1 : i + 1]]
    return "".join(kept)


def _unrefuted(clause: str, verdicts: bool) -> str:
    if REFUTED.fullmatch(clause) or (verdicts and FAULTED.fullmatch(clause)):
        return " " * len(clause)
    denial = DENIAL.search(clause)
    return clause if denial is None else clause[: denial.start()].ljust(len(clause))


def _parts(pattern: re.Pattern[str], text: str) -> list[str]:
    """A text cut after each match; the parts join to the text."""
    ends = [match.end() for match in pattern.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def _size(clause: str) -> int:
    return len(re.findall(r"\w+", clause))
