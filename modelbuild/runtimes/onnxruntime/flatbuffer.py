"""FlatBuffers read and written by a table of their schema: whatever the table does not know is an error.

A table of a file becomes a dict of the fields that are present: bytes for scalars, strings and vectors of scalars,
dicts and lists of dicts for the rest. Equal dicts give equal bytes: parents before children, fields in one order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Table = dict[str, Any]
SCALARS = {"int8": 1, "uint8": 1, "bool": 1, "int32": 4, "uint32": 4, "float32": 4, "int64": 8}
REFERENCE = 4
SLOT = 2
VTABLE_HEAD = 2 * SLOT  # its own size and that of the table
# The usual verifier goes no deeper either, so no file that a program loads is refused.
DEEPEST = 64
LARGEST = 2**31 - 1


class FormatError(ValueError):
    """The bytes are not what the schema says."""


class Field(NamedTuple):
    """`size` is that of the value, or of one element of the vector, where it lies; `align` that of a first element.

    `kinds` are the tables that may stand here: several in a union, by the number in the field before.
    """

    name: str
    kinds: tuple[str, ...] = ()
    vector: bool = False
    size: int = REFERENCE
    align: int = REFERENCE
    default: bytes = b""

    @property
    def plain(self) -> bool:
        """Whether values are bytes in place and not references."""
        return self.default != b""

    @property
    def union(self) -> bool:
        return len(self.kinds) > 1


class Schema(NamedTuple):
    """Fields by table; None for a field that writers no longer write, which is as unknown as one past the last."""

    tables: Mapping[str, tuple[Field | None, ...]]
    root: str
    identifier: bytes


def schema(tables: Mapping[str, str], root: str, identifier: bytes, structs: Mapping[str, int]) -> Schema:
    """From `tables`: "name:string dims:[int64] raw:[uint8]/16 offset:int64=-1 value:One|Other gone:-".

    After "/" is an alignment, after "=" a default other than zero; `structs` are sizes, of 4-byte parts.
    """
    sizes = {**SCALARS, **structs}
    return Schema(
        {n: tuple(_field(f, sizes) for f in text.split()) for n, text in tables.items()}, root, identifier
    )


def _field(text: str, sizes: Mapping[str, int]) -> Field | None:
    name, _, rest = text.partition(":")
    rest, _, default = rest.partition("=")
    rest, _, align = rest.partition("/")
    kind = rest.strip("[]")
    if kind == "-":
        return None
    vector, size = rest.startswith("["), sizes.get(kind)
    if size is None:
        return Field(name, () if kind == "string" else tuple(kind.split("|")), vector)
    natural = size if kind in SCALARS else REFERENCE
    value = int(default or 0).to_bytes(size, "little", signed=True)
    return Field(name, (), vector, size, int(align or natural), value)


def read(data: bytes, by: Schema) -> Table:
    """The root table. Raises FormatError for bytes that are no such file and for fields that `by` does not know."""
    reader = _Reader(data, by)
    if data[REFERENCE : 2 * REFERENCE] != by.identifier:
        raise FormatError(f"it does not have the letters {by.identifier.decode()} of this format")
    return reader.table(by.root, reader.reference(0), 0)


def write(table: Table, by: Schema) -> bytes:
    """A file that reads as `table`. Raises FormatError where it would be too large for the format."""
    writer = _Writer(by)
    writer.out += bytes(REFERENCE) + by.identifier
    writer.table(0, by.root, table)
    writer.strings()
    if len(writer.out) > LARGEST:
        raise FormatError("it is larger than 2 GiB, which the format cannot hold")
    return bytes(writer.out)


class _Reader:
    """Everything read is paid for out of the file's size: overlapping parts do not blow up. Strings are shared."""

    def __init__(self, data: bytes, by: Schema) -> None:
        self._data, self._by, self._left = memoryview(data), by, len(data)
        self._strings: dict[int, bytes] = {}

    def reference(self, at: int) -> int:
        return at + self._number("<I", at)

    def table(self, kind: str, at: int, depth: int) -> Table:
        if depth > DEEPEST:
            raise FormatError(f"its tables are nested more than {DEEPEST} deep")
        found: Table = {}
        for field, place in self._fields(kind, at):
            if field.plain and not field.vector:
                value: Any = bytes(self._bytes(place, field.size))
                if value == field.default:
                    continue
            else:
                value = self._value(field, self.reference(place), found, depth)
            found[field.name] = value
        _refuse_empty_unions(self._by.tables[kind], found)
        return found

    def _fields(self, kind: str, at: int) -> Iterator[tuple[Field, int]]:
        """The fields that are present, and where each lies."""
        vtable, known = at - self._number("<i", at), self._by.tables[kind]
        length, extent = self._number("<H", vtable), self._number("<H", vtable + SLOT)
        # Empty slots too: a long vtable that all tables share would be read for each.
        if length > VTABLE_HEAD + SLOT * len(known):
            raise FormatError(f"field {len(known)} of {kind} is set, which is not known")
        slots = struct.unpack(f"<{length // SLOT}H", self._bytes(vtable, length // SLOT * SLOT))[2:]
        self._spend(len(self._bytes(at, max(extent, REFERENCE))))
        for index, (slot, field) in enumerate(zip(slots, known, strict=False)):
            if slot and field is None:
                raise FormatError(f"field {index} of {kind} is set, which is not known")
            if slot and field:
                if not REFERENCE <= slot <= extent - (REFERENCE if field.vector else field.size):
                    raise FormatError(f"{kind}.{field.name} lies outside of its table")
                yield field, at + slot

    def _value(self, field: Field, at: int, table: Table, depth: int) -> Any:
        if not field.vector:
            return self._single(field, at, table, depth)
        count = self._number("<I", at)
        body = self._bytes(at + REFERENCE, count * field.size)
        self._spend(REFERENCE + len(body))
        if field.plain:
            return body
        places = range(at + REFERENCE, at + REFERENCE + len(body), REFERENCE)
        return [self._single(field, self.reference(place), table, depth) for place in places]

    def _single(self, field: Field, at: int, table: Table, depth: int) -> Any:
        if not field.kinds:
            return self._string(at)
        return self.table(_kind(field, table), at, depth + 1)

    def _string(self, at: int) -> bytes:
        if at not in self._strings:
            size = self._number("<I", at)
            body = bytes(self._bytes(at + REFERENCE, size + 1))
            self._spend(REFERENCE + len(body))
            if body[-1]:
                raise FormatError("a string in it has no end")
            self._strings[at] = body[:-1]
        return self._strings[at]

    def _number(self, form: str, at: int) -> int:
        return int(struct.unpack(form, self._bytes(at, struct.calcsize(form)))[0])

    def _bytes(self, at: int, size: int) -> memoryview:
        if at < 0 or at + size > len(self._data):
            raise FormatError("it ends before a part that it refers to")
        return self._data[at : at + size]

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise FormatError("parts of it overlap")


class _Writer:
    """Appends what is referred to, and fills in the reference; it can only point forwards.

    So strings, which many share, come last.
    """

    def __init__(self, by: Schema) -> None:
        self.out, self._by = bytearray(), by
        self._vtables: dict[bytes, int] = {}
        self._strings: dict[bytes, list[int]] = {}

    def table(self, at: int, kind: str, table: Table) -> None:
        """Write, with everything inside, for the reference `at`. The largest fields come first: no gaps."""
        present = [(i, f) for i, f in enumerate(self._by.tables[kind]) if f and f.name in table]
        slots, end = [0] * (max((i for i, _ in present), default=-1) + 1), REFERENCE
        for index, field in sorted(present, key=lambda each: -_width(each[1])):
            slots[index], end = end, end + _width(field)
        vtable = self._vtable(slots, end)
        start = self._begin(at, 8)
        self.out += struct.pack("<i", start - vtable) + bytes(end - REFERENCE)
        for index, field in present:
            place, value = start + slots[index], table[field.name]
            if field.plain and not field.vector:
                self.out[place : place + field.size] = value
            elif field.vector:
                self._vector(place, field, value)
            else:
                self._single(place, field, value, table)

    def strings(self) -> None:
        """Write all that tables have referred to."""
        for value, (first, *others) in self._strings.items():
            start = self._begin(first, REFERENCE)
            for place in others:
                self._refer(place, start)
            self.out += struct.pack("<I", len(value)) + value + b"\0"

    def _vtable(self, slots: list[int], extent: int) -> int:
        body = struct.pack(f"<{2 + len(slots)}H", VTABLE_HEAD + SLOT * len(slots), extent, *slots)
        if body not in self._vtables:
            self._pad(SLOT)
            self._vtables[body] = len(self.out)
            self.out += body
        return self._vtables[body]

    def _vector(self, at: int, field: Field, value: Any) -> None:
        start = self._begin(at, field.align)
        self.out += struct.pack("<I", len(value) // field.size if field.plain else len(value))
        if field.plain:
            self.out += value
            return
        self.out += bytes(REFERENCE * len(value))
        for index, each in enumerate(value, 1):
            self._single(start + REFERENCE * index, field, each, {})

    def _single(self, at: int, field: Field, value: Any, table: Table) -> None:
        if field.kinds:
            self.table(at, _kind(field, table), value)
        else:
            self._strings.setdefault(value, []).append(at)

    def _begin(self, at: int, align: int) -> int:
        """Here begins what the reference `at` refers to; what follows its first 4 bytes is aligned."""
        self._pad(max(align, REFERENCE), REFERENCE)
        self._refer(at, len(self.out))
        return len(self.out)

    def _refer(self, at: int, to: int) -> None:
        struct.pack_into("<I", self.out, at, to - at)

    def _pad(self, align: int, ahead: int = 0) -> None:
        """Until what comes `ahead` bytes later is a multiple of `align`."""
        self.out += bytes(-(len(self.out) + ahead) % align)


def _width(field: Field) -> int:
    return REFERENCE if field.vector else field.size


def _number_of(field: Field) -> str:
    return f"{field.name}_type"


def _kind(field: Field, table: Table) -> str:
    """The table that stands in `field`: in a union the one whose number is in the field before it."""
    if not field.union:
        return field.kinds[0]
    number = int.from_bytes(table.get(_number_of(field), b"\0"), "little")
    if not 1 <= number <= len(field.kinds):
        raise FormatError(f"{field.name} is of type {number}, which is not known")
    return field.kinds[number - 1]


def _refuse_empty_unions(fields: tuple[Field | None, ...], table: Table) -> None:
    for field in fields:
        if field and field.union and _number_of(field) in table and field.name not in table:
            raise FormatError(f"{field.name} has a type and no value")
