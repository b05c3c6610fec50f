"""Who agrees with whom: runs that hold against each other, in groups, and the odd one out in words.

A group is a connected component of the pairs that hold. That the largest group agrees proves nothing by itself: only
the one that holds the reference is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REFERENCE = "reference"
Hold = Sequence[Sequence[bool | None]]


def clusters(names: Sequence[str], ok: Hold) -> tuple[tuple[str, ...], ...]:
    """The groups, the largest first, of equal ones the reference's; `ok` [name, name] tells which pairs hold."""
    left, groups = list(range(len(names))), list[list[int]]()
    while left:
        group, ahead = list[int](), [left[0]]
        while ahead:
            one = ahead.pop()
            left.remove(one)
            group.append(one)
            ahead += [other for other in left if ok[one][other] is True and other not in ahead]
        groups.append(sorted(group))
    named = [tuple(names[each] for each in group) for group in groups]
    return tuple(sorted(named, key=lambda group: (-len(group), REFERENCE not in group)))


def words(names: Sequence[str], ok: Hold, why: Mapping[str, str]) -> str:
    """`reference = ios = android; browser differs`. `why` says of a run why it cannot be compared: `(nan)`.

    A group that is held together by pairs but does not hold as a whole says which two do not.
    """
    groups = clusters(names, ok)
    if all(each in (None, True) for row in ok for each in row) and len(groups) == len(names) > 1:
        return "nothing was compared"
    return "; ".join(_said(group, names, ok, why) for group in groups)


def _said(group: Sequence[str], names: Sequence[str], ok: Hold, why: Mapping[str, str]) -> str:
    told = " = ".join(f"{name} ({why[name]})" if name in why else name for name in group) + _apart(
        group, names, ok
    )
    if REFERENCE in group:
        return told if len(group) > 1 else f"{told} alone"
    return f"{told} differs" if len(group) == 1 else f"{told} differ"


def _apart(group: Sequence[str], names: Sequence[str], ok: Hold) -> str:
    """Where not all of a group hold against each other, the first two that do not."""
    places = [names.index(name) for name in group]
    pairs = [(one, two) for at, one in enumerate(places) for two in places[at + 1 :] if ok[one][two] is False]
    if not pairs:
        return ""
    one, two = (names[each] for each in pairs[0])
    more = f", and so in {len(pairs)} pairs" if len(pairs) > 1 else ""
    return f" (not all alike: {one} and {two} differ{more})"
