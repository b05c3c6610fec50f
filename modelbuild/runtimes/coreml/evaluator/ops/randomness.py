"""Operations that draw random numbers, which are refused: no two machines draw the same.

Not even a seed helps: MIL does not say which generator it starts.
"""

from __future__ import annotations

RANDOM = frozenset(("random_bernoulli", "random_categorical", "random_normal", "random_uniform"))
REMEDY = "Draw the numbers outside the model and make them an input of it"
