"""How much memory a student may take: the share of a budget that its capacity names."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any


def limit(asked: Mapping[str, Any] | None) -> int | None:
    """Bytes of "budget" times "fraction", rounded down as written in decimals; None where nothing is asked."""
    return None if asked is None else int(asked["budget"] * Fraction(str(asked["fraction"])))
