"""The bundled miniature pipeline: an invented world, its tasks, three checkpoints trained on it.

Importing this package, its tasks or its world loads neither torch nor transformers.
"""

from taketurns.pocket.tasks import TASKS, tasks
from taketurns.pocket.text import PLAIN_PROMPT
from taketurns.pocket.world import World

__all__ = ["PLAIN_PROMPT", "TASKS", "World", "tasks"]
