"""What text from manifests and errors may carry into a page, a file or a terminal: no control characters."""

from __future__ import annotations

import re
from html import escape

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")

# Controls, marks that reverse the reading order, half surrogates and what XML 1.0 has no way to write.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def text(raw: str) -> str:
    """`raw` on its own lines, colours taken out and every other control character made visible as U+FFFD."""
    plain = _ANSI.sub("", raw).replace("\r\n", "\n").replace("\r", "\n")
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", plain)


def line(raw: str, chars: int = 400) -> str:
    """`raw` on one line of at most `chars` characters."""
    joined = " ".join(text(raw).split())
    return joined if len(joined) <= chars else joined[: chars - 1] + "\N{HORIZONTAL ELLIPSIS}"


def html(raw: str, chars: int = 400) -> str:
    """`raw` as HTML text or attribute value, on one line, whatever it tries to be."""
    return escape(line(raw, chars))


def tail(raw: str, chars: int = 8000) -> str:
    """The last `chars` characters of `raw`: the end of an error says what happened."""
    whole = text(raw).strip("\n")
    return whole if len(whole) <= chars else "\N{HORIZONTAL ELLIPSIS}\n" + whole[-chars:]
