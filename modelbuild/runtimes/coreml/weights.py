"""Weight files of a package: records of numbers, each behind a header that says where its numbers lie.

The layout is that of MILBlob in coremltools (StorageFormat.hpp): a header of 64 bytes that counts the records; for
each a header of 64 bytes with a mark, a type, the number of bytes and where they start; all at multiples of 64.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.constants import DAMAGED
from modelbuild.runtimes.coreml.evaluator.mlpackage import MODEL_PATH, Package

ALIGNED = 64
VERSION = 2
MARK = 0xDEADBEEF
RECORD = struct.Struct("<IIQQ")  # mark, type, bytes, start; what follows is kept as it is
COUNT = struct.Struct("<II")  # records, version
NAME = "weight.bin"


def copied(package: Package, spec: Any, to: Path) -> Path | None:
    """Write the weights of `package` that `spec` refers to into folder `to`, and have `spec` refer to these.

    The folder; None where `spec` refers to none. Raises RecipeError where a record is none.
    """
    used = [value for value in _values(spec) if value.WhichOneof("value") == "blobFileValue"]
    if not used:
        return None
    to.mkdir()
    places: dict[tuple[str, int], int] = {}
    with (to / NAME).open("wb") as file:
        file.write(bytes(ALIGNED))
        for value in used:
            where = value.blobFileValue
            key = (where.fileName, where.offset)
            if key not in places:
                places[key] = _append(file, package, *key)
            where.fileName, where.offset = f"{MODEL_PATH}weights/{NAME}", places[key]
        file.seek(0)
        file.write(COUNT.pack(len(places), VERSION))
    return to


def _append(file: BinaryIO, package: Package, name: str, offset: int) -> int:
    """Copy the record at `offset` of the weight file `name` to the end of `file`; where it lies there."""
    with package.blob(name).open("rb") as source:
        source.seek(offset)
        head = source.read(ALIGNED)
        mark, kind, size, start = RECORD.unpack_from(head) if len(head) == ALIGNED else (0, 0, 0, 0)
        source.seek(start)
        numbers = source.read(size)
    if mark != MARK or len(numbers) != size:
        raise RecipeError(package.path.name, f"{name} holds no weight at {offset}", DAMAGED)
    place = file.tell()
    file.write(RECORD.pack(mark, kind, size, place + ALIGNED) + head[RECORD.size :])
    file.write(numbers + bytes(-size % ALIGNED))
    return place


def _values(message: Any) -> Iterator[Any]:
    """Every MIL.Value inside `message`, in one order."""
    if message.DESCRIPTOR.name == "Value" and message.DESCRIPTOR.file.package.endswith("MILSpec"):
        yield message
    for field, content in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = [content[key] for key in sorted(content)]
        else:
            inner = [content] if hasattr(content, "ListFields") else list(content)
        for each in inner:
            if hasattr(each, "ListFields"):
                yield from _values(each)
