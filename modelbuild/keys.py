"""Action keys: one walk over everything a target depends on, read by two writers.

`Keys.parts` is the walk: (label, value) pairs. `key_of` hashes them, `differences` explains them, so that what
`doit why` says is what the key holds. Parts of a target:

| label              | value                                                                    |
|--------------------|--------------------------------------------------------------------------|
| generation         | the store's                                                              |
| python             | major.minor                                                              |
| recipe             | module:function                                                          |
| code MODULE        | digest of the source of every project module the recipe can import       |
| version DIST       | version of every distribution that code imports, or the recipe declares  |
| params             | canonical JSON of the manifest values the recipe reads                   |
| file ROLE          | digest of a file of the project or of an installed package               |
| machine WHAT       | digest of a program of this machine that decides the result, a browser   |
| input ROLE         | digest of an input target's output                                       |

A target's own name is no part: the same work under two names is done once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

from modelbuild import project_files
from modelbuild.closure import ClosureReader
from modelbuild.errors import BuildError
from modelbuild.targets import Recipe, Target
from modelbuild.versions import ImportNames, installed, normal

GENERATION = 1  # raise it when the meaning of stored bytes changes: every key changes with it

Part = tuple[str, str]
Parts = tuple[Part, ...]


def key_of(parts: Parts) -> str:
    """Hash parts; NUL ends every field and occurs in none, so no two lists are written alike."""
    return xxh3_128("".join(f"{label}\0{value}\0" for label, value in parts).encode()).hexdigest()


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


class Keys:
    """Computes parts. `digest` gives a file's (memoised) digest; the memos outlive the process."""

    def __init__(
        self, root: Path, digest: Callable[[Path], str], memo: Callable[[str], MutableMapping[str, str]]
    ) -> None:
        self._root, self._digest, self._memo = root, digest, memo
        self._fixed: dict[tuple[Recipe, tuple[str, ...], tuple[str, ...]], Parts] = {}
        self._sources: dict[Path, str] = {}
        self._closures = ClosureReader(root, self._source, memo("imports"))
        self._names = ImportNames(memo("providers"))

    def renewed(self) -> Keys:
        """Return a computer that has seen no file yet: what it computes is what lies on disk now."""
        return Keys(self._root, self._digest, self._memo)

    def parts(self, target: Target, inputs: Mapping[str, str]) -> Parts:
        """Walk everything `target` depends on; `inputs` maps role -> digest of that input's output.

        Raises BuildError when a file the manifest names is gone, or the package that it is of.
        """
        own = [("params", _canonical(dict(target.params)))]
        own += [(f"file {role}", self._file(target, path)) for role, path in sorted(target.files.items())]
        own += [(f"machine {what}", self._program(target, p)) for what, p in sorted(target.machine.items())]
        own += [(f"input {role}", inputs[role]) for role in sorted(inputs)]
        return (*self._code(target), *own)

    def _file(self, target: Target, path: str) -> str:
        try:
            return self._digest(self.located(target, path))
        except OSError as error:
            raise BuildError(
                target.name,
                f"cannot read {path}: {error.strerror}",
                "Restore the file or name another in the manifest.",
            ) from error

    def located(self, target: Target, path: str) -> Path:
        """Where a file of `target` lies. Raises BuildError when it is one of a package that is not there."""
        return project_files.locate(self._root, path, target.name)

    def _program(self, target: Target, path: str) -> str:
        try:
            return self._digest(Path(path))
        except OSError as error:
            fact = f"cannot read {path}: {error.strerror}"
            raise BuildError(target.name, fact, "Install it anew, or leave out what needs it.") from error

    def _code(self, target: Target) -> Parts:
        """Parts shared by all targets of one recipe and the same modules."""
        recipe = target.recipe
        which = (recipe, target.modules, target.tools)
        if which not in self._fixed:
            fixed = (
                ("generation", str(GENERATION)),
                ("python", f"{sys.version_info[0]}.{sys.version_info[1]}"),
                ("recipe", recipe.function),
            )
            closure = self._closures.closure((recipe.module, *target.modules))
            code = tuple((f"code {dotted}", self._source(path)) for dotted, path in closure.files)
            self._fixed[which] = (
                fixed + code + self._versions(closure.external, (*recipe.tools, *target.tools))
            )
        return self._fixed[which]

    def _source(self, path: Path) -> str:
        """Digest of a source file, asked of the disk once: a run has one view of the code."""
        if path not in self._sources:
            try:
                self._sources[path] = self._digest(path)
            except OSError as error:
                raise BuildError(str(path), f"cannot be read: {error.strerror}", "Restore it.") from error
        return self._sources[path]

    def _versions(self, imported: frozenset[str], declared: tuple[str, ...]) -> Parts:
        found = {d: v for name in imported for d, v in self._names.versions(name).items()}
        found.update({normal(d): installed().get(normal(d), "not installed") for d in declared})
        return tuple((f"version {name}", version) for name, version in sorted(found.items()))

    def imports(self, target: Target) -> frozenset[str]:
        """Top-level names of the installed packages that the target's code imports."""
        return self._closures.closure((target.recipe.module, *target.modules)).external


def expanded(parts: Parts) -> Iterator[Part]:
    """Yield parts for people: `params` as one part a leaf, such as (`param /train/steps`, `600`)."""
    for label, value in parts:
        if label == "params":
            yield from ((f"param {pointer}", text) for pointer, text in _leaves(json.loads(value), ""))
        else:
            yield label, value


def _leaves(value: Any, at: str) -> Iterator[Part]:
    """Flatten JSON to (pointer, JSON of the leaf); an empty list or object is a leaf. An index reads `[0]`."""
    if isinstance(value, dict) and value:
        for name in value:
            step = name.replace("~", "~0").replace("/", "~1").replace("[", "~2")
            yield from _leaves(value[name], f"{at}/{step}")
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, f"{at}[{index}]")
    else:
        yield at, json.dumps(value)


def differences(old: Parts, new: Parts) -> list[tuple[str, str, str]]:
    """Return (label, old value, new value) of every part that is not the same; "" where a side has none."""
    before, after = dict(expanded(old)), dict(expanded(new))
    labels = [*after, *(label for label in before if label not in after)]
    return [(x, before.get(x, ""), after.get(x, "")) for x in labels if before.get(x) != after.get(x)]


def reason(target: Target, old: Parts, new: Parts) -> str:
    """Say in one line why `target` must be built again."""
    words = [_words(target, *difference) for difference in differences(old, new)]
    rest = f" (+{len(words) - 2} more)" if len(words) > 2 else ""
    return "; ".join(words[:2]) + rest


def _words(target: Target, label: str, old: str, new: str) -> str:
    kind, _, name = label.partition(" ")
    if kind == "code":
        return f"code {'added' if not old else 'removed' if not new else 'changed'}: {name}"
    if kind == "file":
        path = target.files.get(name, name)
        return f"file changed: {name if Path(path).is_absolute() else path}"
    if kind == "machine":
        return f"another {name} on this machine"
    if kind == "input":
        return f"input changed: {target.inputs.get(name, name)}"
    return f"{name or kind}: {old or 'none'} -> {new or 'none'}"
