"""One state of the world for training and inference: seeded, one thread, deterministic kernels only."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def deterministic(seed: int = 0) -> Iterator[None]:
    """Seed every generator a module may draw from, and put everything back at the end.

    One thread, because the order of a parallel sum depends on how many there are.
    """
    threads = torch.get_num_threads()
    mode = torch.are_deterministic_algorithms_enabled()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        with torch.random.fork_rng(devices=[]):
            _seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
