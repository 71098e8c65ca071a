"""A method of one's own, compared with the team and the checkpoints. In this folder:

taketurns evaluate --team pocket --task arithmetic --methods aligned,switch,method:Longest \\
    --limit 20 --seeds 1 --output report
"""

from taketurns.evaluation.methods.base import Plain


class Longest(Plain):
    """Every checkpoint answers, and the longest answer is given."""

    async def check(self) -> None:
        """Raise UsageError here if the method cannot work with `self._context.config`."""

    async def answer(self, task, query, seed):
        """One answer to one query; tokens and passes are counted by the engine."""
        context = self._context
        traces = [await context.answer(name, query, seed) for name in context.names]
        return max(traces, key=lambda trace: len(trace.text))
