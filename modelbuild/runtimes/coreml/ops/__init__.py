"""The kernels of ML Program operations, by family; `KERNELS` has them all by the operation's name."""

from modelbuild.runtimes.coreml.kernels import KERNELS
from modelbuild.runtimes.coreml.ops import elementwise as elementwise

__all__ = ["KERNELS"]
