"""Every error a user can meet: place, fact, remedy, and the exit code that says whose fault it is.

ModelbuildError
├── UserError                 exit 3   what was asked is wrong
│   ├── ManifestError                  a manifest says something that cannot be
│   └── CommandError                   a command line says something that cannot be
├── BuildError                exit 1   what was asked failed
│   ├── RecipeError                    a recipe refused its inputs, or training broke down
│   ├── InputChangedError              an input changed while a target was built from it
│   └── JobCrashedError                the process of a recipe died (signal, out of memory)
└── StoreError                exit 2   the cache itself cannot be used (full or read-only disk)
"""

from __future__ import annotations


class ModelbuildError(Exception):
    """One message in three parts: `place: fact. remedy`, on one line where it is short."""

    exit_code = 2

    def __init__(self, place: str, fact: str, remedy: str = "") -> None:
        """Say where (`place`), what is so (`fact`) and what to do about it (`remedy`)."""
        super().__init__(place, fact, remedy)
        self.place, self.fact, self.remedy = place, fact, remedy

    def __str__(self) -> str:
        text = f"{self.place}: {self.fact}" if self.place else self.fact
        return f"{text}. {self.remedy}" if self.remedy else text


class UserError(ModelbuildError):
    exit_code = 3


class ManifestError(UserError):
    """`place` is `manifests/digits.json#/json/pointer`."""


class CommandError(UserError):
    pass


class BuildError(ModelbuildError):
    exit_code = 1


class RecipeError(BuildError):
    pass


class InputChangedError(BuildError):
    pass


class JobCrashedError(BuildError):
    pass


class StoreError(ModelbuildError):
    exit_code = 2


def did_you_mean(word: str, known: list[str]) -> str:
    """`Did you mean "x"?` when one of `known` is close to `word`, else the list of what is known."""
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f'Did you mean "{close[0]}"?'
    return f"Known: {', '.join(sorted(known))}." if known else ""
