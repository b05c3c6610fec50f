"""Operations on each value by itself: unary, binary, comparisons, logic, casts."""

from __future__ import annotations

import torch

from modelbuild.runtimes.coreml.kernels import binary, unary

unary({"exp": torch.exp, "tanh": torch.tanh, "sigmoid": torch.sigmoid})
binary({"add": torch.add, "mul": torch.mul, "sub": torch.sub})
