"""The object that a structured answer is read into."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class City(BaseModel):
    """What the question asks for."""

    kind: Literal["town", "port"]
    old: bool
