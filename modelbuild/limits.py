"""Every limit on hostile or runaway input, by name."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Bytes, counts and depths beyond which a file is refused rather than read."""

    manifest_bytes: int = 1 << 20
    json_depth: int = 24
    json_items: int = 50_000
    model_name_chars: int = 64
    code_bytes: int = 4 << 20
    record_bytes: int = 64 << 20
    arrays_bytes: int = 8 << 30
    loop_rounds: int = 10_000_000
    tried_numbers: int = 1 << 25


LIMITS = Limits()
