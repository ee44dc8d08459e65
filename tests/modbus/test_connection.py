from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import SocketStream

from sungrow_lib.errors import (
    DamagedReplyError,
    DeviceError,
    DeviceTimeoutError,
    DeviceUnreachableError,
    RegisterRefusedError,
)
from sungrow_lib.modbus.clock import SystemClock
from sungrow_lib.modbus.connection import ConnectionState, ModbusConnection
from sungrow_lib.modbus.limiter import Endpoint
from sungrow_lib.registers.words import Block, RegisterWords, Space
from sungrow_lib.simulator.faults import Fault
from sungrow_lib.simulator.server import InverterSimulator, Profile, StaticSource
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio

TIMEOUT_S = 0.3  # for what does not come
PART_S = 3.0  # for what comes in part: the part must come in time


class NoPace:
    async def before_request(self) -> None: ...

    def after_answer(self) -> None: ...


def connection_to(port: int) -> ModbusConnection:
    return ModbusConnection(
        Endpoint("127.0.0.1", port), timeout_s=PATIENCE_S, connect_pause_s=0.0, clock=SystemClock()
    )


@pytest.fixture
async def inverter(image: RegisterWords) -> AsyncIterator[InverterSimulator]:
    async with InverterSimulator({1: StaticSource(image)}) as simulator:
        yield simulator


async def read(
    connection: ModbusConnection, first: int, count: int = 5, within_s: float = PATIENCE_S
) -> tuple[int, ...]:
    return await connection.read(1, Block(Space.INPUT, first, count), NoPace(), within_s)


async def test_reads_what_the_device_holds(inverter: InverterSimulator) -> None:
    connection = connection_to(inverter.port)
    await connection.open()
    assert connection.state is ConnectionState.IDLE
    assert await read(connection, 5000, 125) == tuple(range(5000, 5125))
    connection.close()
    assert not connection.is_open


EXPECTED: dict[Fault, type[DeviceError] | None] = {
    Fault.SHORT_EXCEPTION: RegisterRefusedError,
    Fault.CODELESS_EXCEPTION: RegisterRefusedError,
    Fault.EXCEPTION_ZERO: RegisterRefusedError,
    Fault.DEVICE_BUSY: RegisterRefusedError,
    Fault.SLOW: DeviceTimeoutError,
    Fault.SILENCE: DeviceTimeoutError,
    Fault.TRUNCATED: DamagedReplyError,
    Fault.EXTRA_BYTES: None,
    Fault.LEADING_NOISE: None,
    Fault.WRONG_TRANSACTION: DeviceTimeoutError,
    Fault.WRONG_UNIT: DamagedReplyError,
    Fault.WRONG_COUNT: DamagedReplyError,
    Fault.STALE_REPLY: None,
    Fault.RESET: DeviceUnreachableError,
    Fault.CLOSE: None,
    Fault.HALF_OPEN: DeviceTimeoutError,
}


def test_every_fault_is_tried() -> None:
    assert set(EXPECTED) == set(Fault)


@pytest.mark.parametrize("fault", Fault)
async def test_no_fault_hangs_ends_or_falsifies(inverter: InverterSimulator, fault: Fault) -> None:
    connection = connection_to(inverter.port)
    await connection.open()
    inverter.inject(None, fault)
    assert await read(connection, 5000) == tuple(range(5000, 5005))
    expected = EXPECTED[fault]
    if expected is None:
        assert await read(connection, 5010) == tuple(range(5010, 5015))
    else:
        within_s = TIMEOUT_S if expected is DeviceTimeoutError else PART_S
        with pytest.raises(expected):
            await read(connection, 5010, within_s=within_s)
        # A refusal leaves the stream in step; after anything else it is not trusted any more.
        assert connection.is_open == (expected is RegisterRefusedError)
    for first in (5020, 5030):  # a late reply to 5010 would now be taken for this one
        await anyio.sleep(0.02)
        if not connection.is_open:
            await connection.open()
        assert await read(connection, first) == tuple(range(first, first + 5))
    connection.close()


async def test_a_late_answer_is_not_taken_for_the_next(inverter: InverterSimulator) -> None:
    connection = connection_to(inverter.port)
    await connection.open()
    inverter.inject(Fault.SLOW)
    with pytest.raises(DeviceTimeoutError):
        await read(connection, 5000, within_s=TIMEOUT_S)
    await connection.open()
    await anyio.sleep(1.0)  # by now the late answer has been sent
    assert await read(connection, 5050) == tuple(range(5050, 5055))
    connection.close()


async def test_cancelled_request_closes_the_connection(inverter: InverterSimulator) -> None:
    connection = connection_to(inverter.port)
    await connection.open()
    inverter.inject(Fault.SILENCE)
    with anyio.move_on_after(0.05):
        await read(connection, 5000)
    assert not connection.is_open


async def test_closed_port_says_what_to_look_at() -> None:
    connection = connection_to(1)
    with pytest.raises(DeviceUnreachableError, match="Modbus TCP switched on"):
        await connection.open()
    assert connection.state is ConnectionState.DISCONNECTED


async def test_host_that_swallows_connections_times_out() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=1) as listener:
        # Accepted by the kernel, never by a program: a dongle that hangs.
        port = int(listener.extra(anyio.abc.SocketAttribute.local_port))
        connection = connection_to(port)
        await connection.open()
        with pytest.raises(DeviceTimeoutError, match=r"does another program .* hold its only one"):
            await read(connection, 5000, within_s=TIMEOUT_S)


async def test_a_device_that_falls_silent_is_suspected_after_some_connections(
    inverter: InverterSimulator,
) -> None:
    """One lost answer is nothing; several connections without any may be somebody else's doing."""
    connection = connection_to(inverter.port)
    await connection.open()
    await read(connection, 5000)
    inverter.inject(*[Fault.SILENCE] * 4)
    said = []
    for _ in range(4):
        with pytest.raises(DeviceTimeoutError) as caught:
            await read(connection, 5000, within_s=TIMEOUT_S)
        said.append("another program" in str(caught.value))
        await connection.open()
    assert said == [False, False, False, True]
    await read(connection, 5000)
    connection.close()


async def test_a_device_that_hangs_up_at_once_may_be_taken() -> None:
    async def handler(stream: SocketStream) -> None:
        await stream.aclose()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, handler)
        connection = connection_to(int(listener.extra(anyio.abc.SocketAttribute.local_port)))
        await connection.open()
        with pytest.raises(DeviceUnreachableError, match="is another program reading it"):
            await read(connection, 5000)
        group.cancel_scope.cancel()


async def serve_bytes(answer: bytes, stream: SocketStream) -> None:
    async with stream:
        await stream.receive()
        await stream.send(answer)
        await anyio.sleep(5)


@pytest.mark.parametrize(
    ("answer", "text"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "not Modbus"), (b"\xff" * 9000, "noise")]
)
async def test_what_is_not_modbus_is_called_so(answer: bytes, text: str) -> None:
    async def handler(stream: SocketStream) -> None:
        await serve_bytes(answer, stream)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, handler)
        connection = connection_to(int(listener.extra(anyio.abc.SocketAttribute.local_port)))
        await connection.open()
        with pytest.raises(DamagedReplyError, match=text):
            await read(connection, 5000, within_s=PART_S)
        group.cancel_scope.cancel()


async def test_unknown_unit_is_silent_on_the_lan_and_refused_behind_a_gateway(image: RegisterWords) -> None:
    for profile, error, patience_s in (
        (Profile.LAN, DeviceTimeoutError, TIMEOUT_S),
        (Profile.RS485, RegisterRefusedError, PATIENCE_S),
    ):
        async with InverterSimulator({1: StaticSource(image)}, profile=profile) as simulator:
            connection = connection_to(simulator.port)
            await connection.open()
            with pytest.raises(error):
                await connection.read(9, Block(Space.INPUT, 5000, 1), NoPace(), patience_s)
            connection.close()
