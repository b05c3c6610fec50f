"""How errors are spread over the orders of magnitude, counted on the way in bins that are even in log10."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence.streams import Floats

ERRORS_PER_DECADE, LEADS_PER_DECADE = 4, 2
# The highest bits of a float64 that is not negative are its exponent and the first 7 bits of its mantissa: a cell of
# numbers that differ by less than 1 %. Counting by cells needs no logarithm for each value.
SHIFT = 45
CELLS = 1 << (64 - SHIFT - 1)
LOWEST, HIGHEST = -45, 39  # the decades of a float32: as far as leads are told apart
BINS = (HIGHEST - LOWEST) * LEADS_PER_DECADE


class ErrorHistogram:
    """Counts of |x - r|. A cell counts for the bin that its middle is in, so a bin's edges are good to 0.4 %."""

    def __init__(self) -> None:
        self._counts = np.zeros(CELLS, np.int64)

    def add(self, cells: NDArray[np.int64]) -> None:
        np.add.at(self._counts, cells, 1)

    def add_zeros(self, count: int) -> None:
        self._counts[0] += count

    def to_json(self, floor: float | None, limit: float | None) -> dict[str, Any]:
        """Bin i begins at 10 ** (least_exponent + i / per_decade); `zero` are the equal ones."""
        used = np.flatnonzero(self._counts[1:]) + 1
        with np.errstate(all="ignore"):
            edges = [(used + more).astype(np.int64) << SHIFT for more in (0, 1)]
            low, high = (each.view(np.float64) for each in edges)
            middle = np.minimum(low / 2 + high / 2, np.finfo(np.float64).max)
        place = np.floor(np.log10(middle) * ERRORS_PER_DECADE).astype(np.int64)
        least = int(place.min()) // ERRORS_PER_DECADE if len(place) else 0
        counts = np.zeros(int(place.max()) + 1 - least * ERRORS_PER_DECADE if len(place) else 0, np.int64)
        np.add.at(counts, place - least * ERRORS_PER_DECADE, self._counts[used])
        return {
            "least_exponent": least,
            "per_decade": ERRORS_PER_DECADE,
            "counts": counts.tolist(),
            "zero": int(self._counts[0]),
            "floor": floor,
            "limit": limit,
        }


def cells(error: Floats, out: NDArray[np.int64]) -> NDArray[np.int64]:
    """The cell of each of `error`, numbers that are not negative, in `out`; 0 is the cell of zero."""
    return np.right_shift(error.view(np.int64), SHIFT, out=out)


class LeadHistogram:
    """Samples by the lead of the reference's best class and by how far a run moves that lead."""

    def __init__(self) -> None:
        self._counts = np.zeros((BINS, BINS), np.int64)
        self._unmoved = 0

    def add(self, leads: NDArray[np.int64], drift: Floats) -> None:
        """The `bins` of the leads, and how far each moves; both of [samples]."""
        moved = drift > 0
        where = leads * BINS + bins(drift)
        np.add.at(self._counts.reshape(-1), where if moved.all() else where[moved], 1)
        self.add_unmoved(len(drift) - int(np.count_nonzero(moved)))

    def add_unmoved(self, samples: int) -> None:
        self._unmoved += samples

    def to_json(self, margin: float | None) -> dict[str, Any]:
        """counts[lead][drift], bins of both as in the histogram of errors; `zero` are the leads that did not move.

        Ties of the reference, whose lead is 0, stand in the lowest bin that is shown.
        """
        leads, drifts = np.nonzero(self._counts)
        if not len(leads):
            return self._shown(0, [], margin)
        least = min(int(leads[leads > 0].min(initial=BINS)), int(drifts.min())) // LEADS_PER_DECADE
        first = least * LEADS_PER_DECADE
        last_lead, last_drift = max(int(leads.max()), first), int(drifts.max())
        counts = self._counts[first : last_lead + 1, first : last_drift + 1].copy()
        if first > 0:
            counts[0] += self._counts[0, first : last_drift + 1]
        return self._shown(least + LOWEST, counts.tolist(), margin)

    def _shown(self, least: int, counts: list[list[int]], margin: float | None) -> dict[str, Any]:
        return {
            "least_exponent": least,
            "per_decade": LEADS_PER_DECADE,
            "counts": counts,
            "zero": self._unmoved,
            "margin": margin,
        }


def bins(values: Floats) -> NDArray[np.int64]:
    """The bin of each of `values`, none negative; what is beyond the bins, 0 too, is in the outermost."""
    with np.errstate(all="ignore"):
        place = np.floor(np.log10(values) * LEADS_PER_DECADE) - LOWEST * LEADS_PER_DECADE
    return np.asarray(np.clip(place, 0, BINS - 1), dtype=np.int64)
