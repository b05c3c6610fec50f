"""Every run against every other, one table an output: how much of the limit each pair uses, in words and colours.

Runs stand in the order of their clusters, so that those that agree are blocks. Columns have numbers, rows the number
and the name: a dozen names fit no telephone. Every cell says in text what its colour says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from modelbuild.report import clean, figures
from modelbuild.report.details import Matrix

SAME, RED, NONE = "=", "red", figures.NOTHING
_TIMES = "\N{MULTIPLICATION SIGN}"
# The upper end of each step of the scale; beyond the last is the limit itself.
_STEPS = (0.01, 0.05, 0.2, 0.5, 0.8)
_FAR = 10.0
_LEGEND = (
    ("same", SAME, "the same to the bit"),
    ("s0", "<.01", "far below the limit"),
    ("s3", ".35", "of the limit used"),
    ("s5", ".95", "close to it"),
    ("r0", f"1.4{_TIMES}", "over the limit"),
    ("r1", f"32{_TIMES}", "far over it"),
    ("blank", NONE, "not compared"),
)


def draw(matrices: Mapping[str, Matrix]) -> str:
    """The legend and one heat map for every output; nothing where nothing was compared."""
    maps = [_output(name, matrix) for name, matrix in matrices.items() if matrix.runs]
    keys = "".join(
        f'<span><b class="cell {kind}">{escape(said)}</b> {words}</span>' for kind, said, words in _LEGEND
    )
    return f'<p class="keys">{keys}</p>{"".join(maps)}' if maps else ""


def label(share: float | None, largest: float | None, ok: bool | None) -> str:
    """What a cell says: `=`, `.16`, `1.4x`, `red` where no number says it, a dash where nothing was."""
    if ok is None:
        return NONE
    if ok:
        return SAME if largest == 0 else "ok" if share is None else _part(share)
    return RED if share is None or share <= 1 else _times(share)


def kind(share: float | None, largest: float | None, ok: bool | None) -> str:
    """The class that colours a cell."""
    if ok is None:
        return "blank"
    if not ok:
        return "r1" if share is None or share > _FAR else "r0"
    if largest == 0:
        return "same"
    return f"s{sum((share or 0.0) > step for step in _STEPS)}"


def _part(share: float) -> str:
    """Never `1` for what is not quite all, nor `0` for what is not quite nothing."""
    if share < 0.005:
        return "<.01"
    return "1" if share >= 1 else f"{min(share, 0.99):.2f}".removeprefix("0")


def _times(share: float) -> str:
    if share >= 99.5:
        return f">99{_TIMES}"
    return f"{share:.0f}{_TIMES}" if share >= 9.95 else f"{max(share, 1.1):.1f}{_TIMES}"


def _output(name: str, matrix: Matrix) -> str:
    order, ends = _order(matrix)
    said = f'<p class="said">{clean.html(matrix.words)}</p>' if matrix.words.strip() else ""
    caption = f"<caption>How much of the limit each pair uses on {clean.html(name)}</caption>"
    heads = "".join(_head(at + 1, matrix.runs[run]) for at, run in enumerate(order))
    rows = "".join(_row(matrix, order, ends, at) for at in range(len(order)))
    top = f'<thead><tr><th scope="col">Run</th>{heads}</tr></thead>'
    table = f'<table class="heat">{caption}{top}<tbody>{rows}</tbody></table>'
    return (
        f'<h3><code>{clean.html(name)}</code></h3>{said}<div class="scroll narrow" tabindex="0">{table}</div>'
    )


def _head(number: int, run: str) -> str:
    name = clean.html(run)
    return f'<th scope="col" title="{name}" aria-label="{number} {name}">{number}</th>'


def _order(matrix: Matrix) -> tuple[list[int], set[int]]:
    """The runs by cluster, and the positions at which a cluster ends."""
    places = {run: index for index, run in enumerate(matrix.runs)}
    order, ends = list[int](), set[int]()
    for cluster in (*matrix.clusters, matrix.runs):
        order += [places[run] for run in cluster if run in places and places[run] not in order]
        ends.add(len(order) - 1)
    return order, ends - {len(order) - 1}


def _row(matrix: Matrix, order: Sequence[int], ends: set[int], at: int) -> str:
    run = order[at]
    cells = "".join(_cell(matrix, run, other, place in ends) for place, other in enumerate(order))
    name = f'<th scope="row"><span class="at">{at + 1}</span> {_breakable(matrix.runs[run])}</th>'
    return f'<tr class="{"end" if at in ends else "run"}">{name}{cells}</tr>'


def _cell(matrix: Matrix, run: int, other: int, end: bool) -> str:
    last = " end" if end else ""
    if run == other:
        return f'<td class="cell self{last}"></td>'
    share, largest, ok = matrix.share[run][other], matrix.max_abs[run][other], matrix.ok[run][other]
    classes = f"cell {kind(share, largest, ok)}{last}"
    words = f"{matrix.runs[run]} against {matrix.runs[other]}: {_words(share, largest, ok)}"
    return f'<td class="{classes}"{_titled(words)}>{escape(label(share, largest, ok))}</td>'


def _words(share: float | None, largest: float | None, ok: bool | None) -> str:
    if ok is None:
        return "not compared"
    if ok and largest == 0:
        return "the same to the bit"
    parts = [
        f"max_abs {figures.number(largest, 3)}" if largest is not None else "",
        f"{figures.number(share, 3)} of the limit" if share is not None else "",
        "holds" if ok else "over the limit",
    ]
    return ", ".join(filter(None, parts))


def _breakable(run: str) -> str:
    """A long name breaks between platform and way."""
    platform, dot, way = run.partition(".")
    return f"{clean.html(platform)}{dot}<wbr>{clean.html(way)}"


def _titled(words: str) -> str:
    return f' title="{clean.html(words)}"'
