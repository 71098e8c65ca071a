"""Units of measurement by any of their usual names: 3.5 kilograms are 3.5 kg."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

SPELLINGS = """
kg: kilogram kilo kilogramme | g: gram gramme | mg: milligram | t: tonne ton
lb: pound lbs | oz: ounce
km: kilometre kilometer | m: metre meter | cm: centimetre centimeter | mm: millimetre millimeter
in: inch inches | ft: foot feet | yd: yard | mi: mile | l: litre liter | ml: millilitre milliliter
s: second sec | min: minute mins | h: hour hr hrs | ms: millisecond | n: newton | j: joule
kj: kilojoule | w: watt | kw: kilowatt | v: volt | a: ampere amp | hz: hertz
pa: pascal | k: kelvin | mol: mole | %: percent | °c: celsius | °f: fahrenheit
$: dollar usd | €: euro eur | £: gbp
"""
UNITS: Mapping[str, str] = MappingProxyType(
    {
        name: unit.strip()
        for unit, names in (entry.split(":") for entry in re.split(r"[|\n]", SPELLINGS.strip()))
        for name in names.split()
    }
)
FIGURES = re.compile(r"[-+]?[\d.,/\s]*\d(?:[eE][-+]?\d+)?")


def unit_of(text: str) -> str:
    """The unit of a text that is a number and a unit, by its short name; "" if there is none."""
    rest = FIGURES.sub("", text, count=1).casefold().strip(" .")
    rest = re.sub(r"\\(?:text|mathrm|mbox)\{([^{}]*)\}", r"\1", rest)
    rest = rest.replace("degrees ", "°").replace("degree ", "°").replace("\\", "")
    words = [_unit(word) for word in re.findall(r"[^\s/]+|/", rest)]
    return " ".join(words).replace(" per ", " / ")


def _unit(word: str) -> str:
    word = word.strip(".,;:!()$" if len(word) > 1 else "")
    degree = "°" if word.startswith("°") else ""
    plain = word.removeprefix("°")
    single = plain.removesuffix("s") if len(plain) > 2 else plain
    return UNITS.get(plain, UNITS.get(single, degree + single))
