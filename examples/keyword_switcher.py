"""A switcher of one's own: a word in the question or in the answer so far decides who writes.

In a team file:

    switcher: {kind: "keyword_switcher:KeywordSwitcher", words: {"+": sft}, otherwise: pretrained}
"""

from taketurns import Team


class KeywordSwitcher:
    """The candidate of the first of `words` that was written or asked, else `otherwise`."""

    def __init__(self, words: dict[str, str], otherwise: str) -> None:
        self.words, self.otherwise = words, otherwise

    async def prepare(self, engine, candidates) -> None:
        """Once, before the first answer: which candidates there are."""
        self.names = [candidate.name for candidate in candidates]

    def begin(self, query, policy):
        """Once an answer; what it returns is asked at every patch boundary."""

        async def decide(session, state) -> tuple[float, ...]:
            text = query.text + state.text
            name = next((n for word, n in self.words.items() if word in text), self.otherwise)
            return tuple(float(candidate == name) for candidate in self.names)

        return decide


if __name__ == "__main__":
    switcher = KeywordSwitcher({"+": "sft", "older": "aligned"}, otherwise="pretrained")
    with Team.load("pocket") as team:
        for question in ("what is 23 + 48?", "what does rebol fonul work as?"):
            trace = team.switched_by(switcher).generate(question)
            print({patch.name for patch in trace.patches}, trace.text)
