"""From `manifests/*.json` to a `Project`: read strictly, check once, declare.

Checking costs the import of a schema library, so a manifest that was found valid is not checked again while
its bytes, those of its platform files and those of the rules stay the same. The files that it names are
looked at on every load.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from xxhash import xxh3_128

from modelbuild import confine, declare, project_files, schemas, strictjson
from modelbuild.declare import Document, Export, Gates, Model, OnnxSource, Project
from modelbuild.errors import ManifestError
from modelbuild.wording import at, quote

__all__ = ["Accepted", "Export", "Gates", "Model", "OnnxSource", "Project", "load"]

FOLDER = "manifests"
SHOWN = 10
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\.json")
_RULES = (
    *(
        "code_names.py",
        "confine.py",
        "declare.py",
        "kinds.py",
        "modules.py",
        "presets.py",
        "project_files.py",
    ),
    *(
        "schema_errors.py",
        "schemas.py",
        "search.py",
        "validate.py",
        "validate_training.py",
        "validate_waivers.py",
    ),
    *("written.py", "equivalence/demand.py"),
)


class Accepted(Protocol):
    """Digests of what was found valid; a set is one, and so is a table that outlives the process."""

    def __contains__(self, digest: str, /) -> bool: ...

    def add(self, digest: str, /) -> None: ...


def load(root: Path, accepted: Accepted) -> Project:
    """Read every manifest of the project at `root`, in the order of their names.

    Raises one ManifestError for all that is wrong, up to ten findings of it in its text.
    """
    loader, problems, models = _Loader(root, accepted), list[ManifestError](), list[Model]()
    for name in _files(root, problems):
        found = loader.model(name)
        if isinstance(found, Model):
            models.append(found)
        else:
            problems.extend(found)
    problems.extend(_twins(models))
    if problems:
        raise _combined({str(problem): problem for problem in problems})
    return Project(root, tuple(models))


def _files(root: Path, problems: list[ManifestError]) -> list[str]:
    """List the manifests by name; lock files, hidden files and folders are none."""
    try:
        names = [entry.name for entry in os.scandir(root / FOLDER) if not entry.is_dir()]
    except OSError:
        names = []
    names = sorted(n for n in names if n.endswith(".json") and not n.endswith(".lock.json") and n[0] != ".")
    if not names:
        remedy = f"Write one, such as {FOLDER}/digits.json, and run this where {FOLDER}/ lies."
        problems.append(ManifestError(f"{FOLDER}/", "there is no manifest", remedy))
    good = [name for name in names if _FILE_NAME.fullmatch(name)]
    for name in sorted({*names} - {*good}):
        fact = f"{quote(name)} is not a valid file name"
        problems.append(ManifestError(f"{FOLDER}/", fact, "Use letters, digits, - and _, then .json."))
    return good


def _twins(models: list[Model]) -> Iterator[ManifestError]:
    first: dict[str, str] = {}
    for model in models:
        if model.name in first:
            fact = f'"{model.name}" is also the model of {first[model.name]}'
            yield ManifestError(at(model.place, ("model",)), fact, "Rename one of the two.")
        first.setdefault(model.name, model.place)


def _combined(problems: Mapping[str, ManifestError]) -> ManifestError:
    """Make one error of several, each on its line; two manifests share what is wrong with a platform file."""
    if len(problems) == 1:
        return next(iter(problems.values()))
    lines = list(problems)[:SHOWN] + ([f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else [])
    files = {problem.place.partition("#")[0] for problem in problems.values()}
    place = files.pop() if len(files) == 1 else FOLDER
    return ManifestError(place, f"{len(problems)} things are wrong:\n  " + "\n  ".join(lines))


@dataclass(frozen=True, slots=True)
class _File:
    """A JSON file as it was read: its bytes and what they say."""

    data: bytes
    document: Document


@dataclass(slots=True)
class _Loader:
    """One load of a project, in which each platform file is read once."""

    root: Path
    accepted: Accepted
    rules: bytes = field(default_factory=lambda: _rules())
    shared: dict[str, _File | ManifestError] = field(default_factory=dict)

    def model(self, name: str) -> Model | list[ManifestError]:
        """Return the model of one file, or all that is wrong with it."""
        place = f"{FOLDER}/{name}"
        file = self._file(name, place)
        if isinstance(file, ManifestError):
            return [file]
        found = self._platform_files(file.document)
        shared = {named: each for named, each in found.items() if isinstance(each, _File)}
        problems = [each for each in found.values() if isinstance(each, ManifestError)]
        problems.extend(_missing_files(self.root, file.document))
        documents = {named: each.document for named, each in shared.items()}
        digest = self._digest([file, *shared.values()])
        if digest not in self.accepted:
            problems.extend(self._check(file.document, documents))
            if not problems:
                self.accepted.add(digest)
        return problems or declare.model(file.document, documents)

    def _file(self, named: str, where: str) -> _File | ManifestError:
        """Read a file below manifests/; what is wrong with its path is said of `where`."""
        refused, place = confine.refusal(self.root, named, FOLDER), f"{FOLDER}/{named}"
        if refused is not None:
            return ManifestError(where, refused.fact, refused.remedy)
        try:
            data = strictjson.read_bytes(self.root / FOLDER / named, place)
            return _File(data, Document(place, strictjson.parse(data, place)))
        except ManifestError as error:
            return error

    def _platform_files(self, document: Document) -> dict[str, _File | ManifestError]:
        """Return the platform files by the path that the manifest gives."""
        declared = document.value.get("platforms") if isinstance(document.value, dict) else None
        named = declared.items() if isinstance(declared, dict) else ()
        paths = {
            path: at(document.place, ("platforms", name)) for name, path in named if isinstance(path, str)
        }
        return {path: self._platform_file(path, where) for path, where in paths.items()}

    def _platform_file(self, named: str, where: str) -> _File | ManifestError:
        known = self.shared.get(named)
        if known is not None:
            return known
        file = (
            self._file(named, where)
            if "/" in named and named.endswith(".json")
            else _not_shared(named, where)
        )
        if isinstance(file, _File):
            self.shared[named] = file
        return file

    def _digest(self, files: list[_File]) -> str:
        # Which rules a manifest passed is part of what was accepted: stricter ones must see it again.
        hasher = xxh3_128(self.rules)
        for file in files:
            hasher.update(f"{file.document.place}\0{len(file.data)}\0".encode())
            hasher.update(file.data)
        return hasher.hexdigest()

    def _check(self, document: Document, shared: Mapping[str, Document]) -> Iterator[ManifestError]:
        from modelbuild import validate

        # A hostile file can be wrong in fifty thousand places; nobody reads past the first few.
        return islice(validate.problems(validate.Manifest(self.root, document, shared)), SHOWN + 1)


def _rules() -> bytes:
    here = Path(__file__).parent
    return b"\0".join([schemas.source(), *((here / name).read_bytes() for name in _RULES)])


def _not_shared(named: str, where: str) -> ManifestError:
    remedy = f"Shared platforms are .json files in a folder of their own, such as {FOLDER}/platforms/."
    return ManifestError(where, f"{quote(named)} is not a platform file", remedy)


def _missing_files(root: Path, document: Document) -> Iterator[ManifestError]:
    """Yield what is wrong with the files that the manifest names."""
    for steps, named in _named_files(document.value):
        refused = project_files.refusal(root, named) if isinstance(named, str) else None
        if refused is not None:
            yield ManifestError(at(document.place, steps), refused.fact, refused.remedy)


def _named_files(manifest: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the place and the name of every file that a manifest, valid or not, says is read."""
    for section in ("source", "teacher"):
        for key in ("onnx", "weights"):
            yield (section, key), _section(manifest, section).get(key)
    for data in _section(manifest, "data"):
        files = _section(manifest, "data", data, "files")
        yield from ((("data", data, "files", role), named) for role, named in files.items())


def _section(manifest: Any, *steps: str) -> Mapping[str, Any]:
    for step in steps:
        manifest = manifest.get(step) if isinstance(manifest, dict) else None
    return manifest if isinstance(manifest, dict) else {}
