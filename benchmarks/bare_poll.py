"""Bare pymodbus at the edge's pace: reads what the edge reads, and does nothing with it.

A program of its own, so that its processor time can be told: `python -m benchmarks.bare_poll PORT:MODEL ...`
"""

from __future__ import annotations

import asyncio
import sys

from pymodbus.client import AsyncModbusTcpClient

from benchmarks.poll import plan_of
from sungrow_lib.registers.applies import ConnectionPath

_INTERVAL_S = 5.0
_GAP_S = 0.1
"""Between two requests, as the edge keeps it."""


async def _poll(port: int, model: str) -> None:
    client = AsyncModbusTcpClient("127.0.0.1", port=port)
    assert await client.connect()
    blocks = plan_of(model, ConnectionPath.LAN).blocks
    while True:
        for block in blocks:
            answer = await client.read_input_registers(block.address, count=block.count, device_id=1)
            assert len(answer.registers) == block.count
            await asyncio.sleep(_GAP_S)
        await asyncio.sleep(_INTERVAL_S)


async def _main() -> None:
    devices = [argument.split(":") for argument in sys.argv[1:]]
    await asyncio.gather(*(_poll(int(port), model) for port, model in devices))


if __name__ == "__main__":
    asyncio.run(_main())
