"""No-op `doit` against plain doit with as many trivial tasks: CPU ratios, peak memory.

    python tests/bench/noop.py [TARGETS ...]        (default: 100 1000; 10000 takes some minutes to lay out)

With no argument it first measures this project's own manifests, which must be built (`doit`).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from measure import side_by_side
from projects import REPO, doit, generated, plain


def peak(folder: Path) -> float:
    """Peak resident MB of a no-op doit there."""
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        handle = os.open(os.devnull, os.O_WRONLY)
        os.dup2(handle, 1)
        os.execv(sys.executable, [sys.executable, "-m", "doit"])
    _, _, usage = os.wait4(pid, 0)
    return usage.ru_maxrss / 1024


def compare(name: str, ours: Path, theirs: Path, runs: int) -> None:
    for folder in (ours, theirs):
        doit(folder)
        doit(folder)
    a, b = side_by_side(runs, lambda: doit(ours), lambda: doit(theirs))
    times = f"{a:.3f} s, plain doit {b:.3f} s, ratio {a / b:.2f}"
    print(f"{name:>24}: {times}, peak {peak(ours):.1f} MB (plain {peak(theirs):.1f} MB)", flush=True)


def own(folder: Path) -> None:
    """Compare this project's own manifests; plain doit gets the same pyproject.toml, which doit itself reads."""
    copies = list((REPO / ".cache" / "out").glob("*/*/"))
    targets = len(copies) + 2 * len(list((REPO / "manifests").glob("*.json")))
    theirs = plain(folder / "plain", targets)
    shutil.copy(REPO / "pyproject.toml", theirs)
    compare(f"this project ({targets})", REPO, theirs, 31)


def main() -> None:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    counts = [int(a) for a in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not counts:
            own(folder)
        for count in counts or [100, 1000]:
            ours, theirs = generated(folder / f"g{count}", count), plain(folder / f"p{count}", count)
            compare(f"{count} targets", ours, theirs, 21 if count < 5000 else 5)


if __name__ == "__main__":
    main()
