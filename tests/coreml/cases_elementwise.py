"""Cases of element-wise operations."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(0)
CASES = [
    Case("exp", "values", {"x": rng.uniform(-5, 5, (3, 4))}, lambda f, x: mb.exp(x=x), np.exp),
    Case(
        "add",
        "broadcast",
        {"x": rng.uniform(-5, 5, (3, 4)), "y": rng.uniform(-5, 5, (4,))},
        lambda f, x, y: mb.add(x=x, y=y),
        np.add,
    ),
]
