"""Raw register contents: what was read, from which register space, before any meaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final

WORD_MAX: Final = 0xFFFF
"""Largest 16-bit word; also what a hole inside a block is filled with on the LAN port."""

BLOCK_MAX: Final = 125
"""Most registers one Modbus read may ask for."""


class Space(IntEnum):
    """The two register spaces, by the Modbus function that reads them. They overlap in numbers."""

    HOLDING = 3
    INPUT = 4


@dataclass(frozen=True, slots=True, order=True)
class Block:
    """A run of registers read in one request.

    Attributes:
        space: which register space.
        first: document number of the first register (1-based; the wire address is one less).
        count: how many registers, 1 to 125.
    """

    space: Space
    first: int
    count: int

    @property
    def address(self) -> int:
        """Address on the wire: the document number less one."""
        return self.first - 1

    @property
    def numbers(self) -> range:
        """Document numbers in the block."""
        return range(self.first, self.first + self.count)

    def covers(self, other: Block) -> bool:
        """Whether every register of ``other`` is in this block."""
        return (
            self.space is other.space
            and self.first <= other.first
            and other.first + other.count <= self.first + self.count
        )

    def __str__(self) -> str:
        return f"{self.space.name.lower()} {self.first}..{self.first + self.count - 1}"


class RegisterWords(Mapping[tuple[Space, int], int]):
    """Immutable raw 16-bit words by space and document number; what was not read is absent.

    >>> words = RegisterWords({(Space.INPUT, 13010): 65134, (Space.INPUT, 13011): 65535})
    >>> words.take(Space.INPUT, 13010, 2)
    (65134, 65535)
    >>> words.take(Space.INPUT, 5000, 1) is None
    True
    """

    __slots__ = ("_words",)

    def __init__(self, words: Mapping[tuple[Space, int], int] | None = None) -> None:
        self._words: dict[tuple[Space, int], int] = dict(words or {})

    @classmethod
    def from_block(cls, block: Block, words: Iterable[int]) -> RegisterWords:
        """Words of one answered block, in order."""
        return cls._holding(dict(zip(_keys_of(block), words, strict=True)))

    @classmethod
    def _holding(cls, words: dict[tuple[Space, int], int]) -> RegisterWords:
        """Take over a dictionary that nobody else holds; several times a poll, so it is not copied."""
        held = cls.__new__(cls)
        held._words = words  # noqa: SLF001 - its own
        return held

    def __getitem__(self, key: tuple[Space, int]) -> int:
        return self._words[key]

    def __iter__(self) -> Iterator[tuple[Space, int]]:
        return iter(self._words)

    def __len__(self) -> int:
        return len(self._words)

    def __or__(self, other: Mapping[tuple[Space, int], int]) -> RegisterWords:
        more = other._words if isinstance(other, RegisterWords) else dict(other)
        return RegisterWords._holding(self._words | more)

    def __repr__(self) -> str:
        return f"RegisterWords({len(self._words)} words)"

    def without(self, blocks: Iterable[Block]) -> RegisterWords:
        """Words that are in none of these blocks."""
        gone = {key for block in blocks for key in _keys_of(block)}
        return RegisterWords._holding({key: word for key, word in self._words.items() if key not in gone})

    @property
    def by_register(self) -> Mapping[tuple[Space, int], int]:
        """The same words as a plain dictionary, for who asks for hundreds of them; not to be changed."""
        return self._words

    def take(self, space: Space, first: int, count: int) -> tuple[int, ...] | None:
        """Words of ``count`` registers from document number ``first``; None unless all were read."""
        words = self._words
        word = words.get((space, first))
        if word is None or count == 1:  # several hundred times a poll: most were not read, or are one word
            return None if word is None else (word,)
        try:
            return (word, *[words[space, number] for number in range(first + 1, first + count)])
        except KeyError:
            return None


@lru_cache(maxsize=256)
def _keys_of(block: Block) -> tuple[tuple[Space, int], ...]:
    """The keys of a block's words: the same in every poll, and so the same objects."""
    return tuple((block.space, number) for number in block.numbers)
