from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
)

from sungrow_lib.errors import DamagedReplyError, DeviceError, DeviceTimeoutError, RegisterRefusedError
from sungrow_lib.modbus.frames import ReadRequest
from sungrow_lib.registers.words import Block, Space

# Seen on an SH6.0RT-V112: the reply's length field says 2 although 3 bytes follow.
FIELD_REQUEST = bytes.fromhex("0003 0000 0006 01 04 13AF 003D")
FIELD_REPLY = bytes.fromhex("0003 0000 0002 01 84 02")


def request(count: int = 2, transaction: int = 7) -> ReadRequest:
    return ReadRequest(1, Block(Space.INPUT, 13010, count), transaction)


def good_reply(*words: int, transaction: int = 7, unit: int = 1, function: int = 4) -> bytes:
    data = b"".join(word.to_bytes(2, "big") for word in words)
    length = (3 + len(data)).to_bytes(2, "big")
    head = transaction.to_bytes(2, "big") + b"\0\0" + length + bytes([unit, function, len(data)])
    return head + data


def test_request_uses_the_wire_address_one_below_the_document_number() -> None:
    assert ReadRequest(1, Block(Space.INPUT, 0x13AF + 1, 0x3D), 3).encode() == FIELD_REQUEST


@given(
    unit=st.integers(1, 247),
    space=st.sampled_from(Space),
    first=st.integers(1, 65_412),
    count=st.integers(1, 125),
    transaction=st.integers(0, 65_535),
)
def test_frames_are_those_of_pymodbus(
    unit: int, space: Space, first: int, count: int, transaction: int
) -> None:
    asked = ReadRequest(unit, Block(space, first, count), transaction)
    kind = ReadInputRegistersRequest if space is Space.INPUT else ReadHoldingRegistersRequest
    peer = kind(address=first - 1, count=count, dev_id=unit, transaction_id=transaction)
    assert asked.encode() == FramerSocket(DecodePDU(is_server=False)).buildFrame(peer)
    words = [(first * n) & 0xFFFF for n in range(count)]
    response = ReadInputRegistersResponse if space is Space.INPUT else ReadHoldingRegistersResponse
    reply = response(registers=words, dev_id=unit, transaction_id=transaction)
    frame = FramerSocket(DecodePDU(is_server=True)).buildFrame(reply)
    assert asked.find_reply(frame) == tuple(words)


def test_holding_registers_are_asked_with_function_3() -> None:
    assert ReadRequest(2, Block(Space.HOLDING, 5000, 1), 1).encode()[6:8] == bytes([2, 3])


def test_words_of_a_good_reply() -> None:
    assert request().find_reply(good_reply(65134, 65535)) == (65134, 65535)


def test_reply_in_pieces_is_awaited() -> None:
    reply = good_reply(1, 2)
    assert all(request().find_reply(reply[:size]) is None for size in range(len(reply)))


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (FIELD_REPLY, 2),
        (bytes.fromhex("0003 0000 0003 01 84 02"), 2),
        (bytes.fromhex("0003 0000 0003 01 84 00"), 0),
        (bytes.fromhex("0003 0000 0003 01 84 06"), 6),
    ],
)
def test_exception_reply_with_any_length_and_code(frame: bytes, code: int) -> None:
    field = ReadRequest(1, Block(Space.INPUT, 0x13B0, 0x3D), 3)
    assert field.find_reply(frame[:-1]) is None
    with pytest.raises(RegisterRefusedError) as caught:
        field.find_reply(frame)
    assert caught.value.code == code


def test_exception_reply_that_never_gets_its_code() -> None:
    field = ReadRequest(1, Block(Space.INPUT, 0x13B0, 0x3D), 3)
    with pytest.raises(RegisterRefusedError) as caught:
        field.give_up(FIELD_REPLY[:-1], "no answer in 1 s")
    assert caught.value.code == 0


@pytest.mark.parametrize(
    "before",
    [
        bytes.fromhex("0032 0000 0002 01 84 02"),  # a stale exception with the wrong length, seen via WiNet-S
        good_reply(9, 9, transaction=6),
        bytes.fromhex("deadbeef"),
        b"\0",
    ],
)
def test_reply_is_found_behind_what_is_not_ours(before: bytes) -> None:
    assert request().find_reply(before + good_reply(1, 2) + b"noise") == (1, 2)


@pytest.mark.parametrize(
    "frame",
    [
        good_reply(1, 2, unit=2),
        good_reply(1, 2, function=3),
        good_reply(1),
        good_reply(1, 2, 3),
    ],
)
def test_reply_about_something_else_is_damaged(frame: bytes) -> None:
    with pytest.raises(DamagedReplyError, match="something else"):
        request().find_reply(frame)


def test_nothing_but_late_replies_is_a_time_out() -> None:
    with pytest.raises(DeviceTimeoutError):
        request().give_up(good_reply(1, 2, transaction=6) + FIELD_REPLY, "no answer in 1 s")


def test_half_a_reply_is_damaged() -> None:
    with pytest.raises(DamagedReplyError, match="broke off after 8 bytes"):
        request().give_up(good_reply(1, 2)[:8], "no answer in 1 s")


def test_another_protocol_is_named_as_such() -> None:
    with pytest.raises(DamagedReplyError, match="not Modbus"):
        request().give_up(b"HTTP/1.1 400 Bad Request\r\n", "the device closed the connection")


@given(st.binary(max_size=80))
def test_garbage_never_becomes_words_and_never_another_error(garbage: bytes) -> None:
    asked = request(count=3, transaction=0x1234)
    try:
        words = asked.find_reply(garbage)
    except DeviceError:
        return
    if words is not None:
        assert bytes.fromhex("1234 0000 0009 01 04 06") in garbage
    with pytest.raises(DeviceError):
        asked.give_up(garbage, "no answer in 1 s")


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=125), st.binary(max_size=30))
def test_words_survive_the_wire(words: list[int], noise: bytes) -> None:
    asked = ReadRequest(1, Block(Space.INPUT, 5000, len(words)), 0xABCD)
    reply = good_reply(*words, transaction=0xABCD)
    if b"\xab\xcd" not in noise:
        assert asked.find_reply(noise + reply) == tuple(words)


@given(st.integers(0, 8), st.integers(1, 255), st.integers(0, 14))
def test_any_change_of_the_header_voids_the_reply(position: int, flipped: int, arrived: int) -> None:
    reply = bytearray(good_reply(1, 2, 3))
    reply[position] ^= flipped
    with pytest.raises(DeviceError):
        await_reply(request(count=3), bytes(reply[:arrived]), bytes(reply))


def await_reply(asked: ReadRequest, *received: bytes) -> None:
    """Look at what has been received, again and again, then give up."""
    assert [asked.find_reply(so_far) for so_far in received] == [None] * len(received)
    asked.give_up(received[-1], "no answer in 1 s")


@given(st.integers(0, 14))
def test_a_cut_reply_is_never_delivered(arrived: int) -> None:
    cut = good_reply(1, 2, 3)[:arrived]
    asked = request(count=3)
    assert asked.find_reply(cut) is None
    with pytest.raises(DamagedReplyError if cut else DeviceTimeoutError):
        asked.give_up(cut, "no answer in 1 s")
