"""Memory is handed out first come first served, and never sits idle while somebody fits."""

from __future__ import annotations

import asyncio

import pytest

from taketurns.engines.local.admission import Admission
from taketurns.errors import CapacityError


async def holding(admission: Admission, need: int, log: list[int], leave: asyncio.Event) -> None:
    async with admission.admit(need):
        log.append(need)
        await leave.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_whoever_gives_up_lets_those_in_who_waited_behind() -> None:
    admission, admitted, leave = Admission(lambda: 10), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(holding(admission, need, admitted, leave)) for need in (6, 7, 3)]
    await settle()
    assert admitted == [6]
    tasks[1].cancel()
    await settle()
    assert admitted == [6, 3]
    assert admission.used == 9
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert admission.used == 0


async def test_what_fits_is_known_beforehand() -> None:
    admission, admitted, leave = Admission(lambda: 10), list[int](), asyncio.Event()
    assert admission.fits([4, 6])
    assert not admission.fits([4, 7])
    with pytest.raises(CapacityError):
        admission.fits([11])
    tasks = [asyncio.create_task(holding(admission, need, admitted, leave)) for need in (6, 5)]
    await settle()
    assert admitted == [6]
    assert not admission.fits([1])  # there is room, but somebody came before
    leave.set()
    await asyncio.gather(*tasks)
    assert admission.fits([10])
