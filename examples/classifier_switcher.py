"""A switcher by a scikit-learn classifier on text, learned from a file of rollouts' labels."""

import sys
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from taketurns import Team
from taketurns.training.labels.labels import read_labels


class ClassifierSwitcher:
    """Probabilities of a classifier that reads the question and the answer so far."""

    def __init__(self, labels: str) -> None:
        self.labels = Path(labels)

    async def prepare(self, engine, candidates) -> None:
        self.names = [candidate.name for candidate in candidates]
        labels = list(read_labels(self.labels, self.names))
        texts = [self.read(label.query.text, label.prefix) for label in labels]
        self.model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
        self.model.fit(texts, [label.best[0] for label in labels])

    def read(self, question, patches) -> str:
        return question + " " + "".join(patch.text for patch in patches)

    def begin(self, query, policy):
        async def decide(session, state) -> tuple[float, ...]:
            (row,) = self.model.predict_proba([self.read(query.text, state.patches)])
            known = dict(zip(self.model.classes_, row, strict=True))
            return tuple(float(known.get(index, 0)) for index in range(len(self.names)))

        return decide


with Team.load("pocket") as team:
    print(team.switched_by(ClassifierSwitcher(sys.argv[1])).generate("what is 23 + 48?").text)
