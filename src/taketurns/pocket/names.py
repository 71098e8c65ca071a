"""The words that every pocket world is made of, independent of the world's seed.

Worlds differ in the combinations of names and in the facts, not in the words, so one vocabulary,
and with it a trained switcher, fits them all.
"""

from __future__ import annotations

from random import Random

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_ENDINGS = ("", "n", "r", "l")


def _invent(count: int, syllables: int, rng: Random, taken: set[str]) -> tuple[str, ...]:
    names: list[str] = []
    while len(names) < count:
        name = "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(syllables))
        name += rng.choice(_ENDINGS)
        if name not in taken:
            taken.add(name)
            names.append(name)
    return tuple(sorted(names))


_RNG = Random(20)
_TAKEN: set[str] = {"more", "take", "name", "note", "rope", "tube", "line", "mile"}

GIVEN = _invent(40, 2, _RNG, _TAKEN)
FAMILY = _invent(40, 2, _RNG, _TAKEN)
MIDDLE = ("bin", "del", "mac", "van")
PLACES = _invent(40, 3, _RNG, _TAKEN)
PREFIXES = ("upper", "lower", "new", "old")

JOBS = (
    "baker", "smith", "weaver", "miller", "sailor", "scribe",
    "mason", "potter", "hunter", "singer", "tanner", "brewer",
)  # fmt: skip
RIVERS = (
    "redwater", "greywater", "longwater", "coldwater",
    "blackwater", "whitewater", "deepwater", "slowwater",
)  # fmt: skip
MATERIALS = (
    "oak", "iron", "clay", "glass", "stone", "copper",
    "silver", "leather", "pine", "straw", "bone", "wool",
)  # fmt: skip
THINGS = (
    "door", "boat", "lamp", "wheel", "chair", "bell", "gate", "chest", "ladder", "mill",
    "drum", "plough", "saddle", "bridge", "oven", "fence", "cart", "roof", "mask", "loom",
)  # fmt: skip
TOOLS = (
    "hammer", "oil", "rope", "wax", "saw", "chisel", "tar", "needle",
    "brush", "nails", "glue", "file", "sand", "tongs", "knife", "thread",
)  # fmt: skip
GOODS = ("coins", "apples", "jars", "hens", "nets", "boots", "eggs", "shells")
TRADERS = ("a farmer", "a trader", "the school", "a shop", "the king", "a captain")
KEYS = "pqrstuvwxyz"
PHRASE = (
    "morning", "winter", "summer", "garden", "window", "letter", "candle", "forest", "island",
    "mountain", "music", "story", "silence", "thunder", "river", "market", "friend", "silver",
    "bread", "honey", "apple", "cloud", "shadow", "feather", "bottle", "ribbon", "castle",
    "harbour", "lantern", "meadow", "pepper", "velvet",
)  # fmt: skip
