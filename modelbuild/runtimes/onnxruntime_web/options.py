"""What a platform may say about ONNX Runtime Web, and the ways of running that follow: host, backend, threads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from modelbuild import nodejs
from modelbuild import options as checks
from modelbuild.errors import ManifestError
from modelbuild.runtimes.base import Environment, Way
from modelbuild.runtimes.onnxruntime_web import chromium

NAME = "onnxruntime-web"
VERSION = "1.30.0"
BACKENDS = ("wasm", "webgpu")
HOSTS = ("node", "chromium")
LEVELS = ("disabled", "basic", "extended", "all")
RELEASE = re.compile(r"\d+\.\d+\.\d+")
HERE = Path(__file__).parent
LOCKS = HERE / "locks"
PROGRAMS = {
    "node": ("answer.mjs", "node_host.mjs"),
    "chromium": ("answer.mjs", "page.html", "page.mjs"),
}
LOCK_FILES = {"manifest": "package.json", "lock": "package-lock.json"}


class Options(NamedTuple):
    """Every option with its default; see schema/runtimes/onnxruntime-web.schema.json for what they mean."""

    backends: Sequence[str] = ("wasm",)
    hosts: Sequence[str] = HOSTS
    threads: Sequence[int] = (1,)
    versions: Sequence[str] = (VERSION,)
    optimisation: str = "all"
    batch: int | None = None
    executable: str | None = None

    @property
    def newest(self) -> str:
        return max(self.versions, key=lambda version: tuple(map(int, version.split("."))))


def parse(options: Mapping[str, Any]) -> Options:
    """The options of a platform. Raises ManifestError, placed at the option, for one that cannot be."""
    checks.known(NAME, options, Options._fields)
    parsed = Options(**options)
    for name in ("backends", "hosts", "threads", "versions"):
        _settled(name, getattr(parsed, name))
    for name, allowed in (("backends", BACKENDS), ("hosts", HOSTS)):
        for each in getattr(parsed, name):
            checks.one_of(name, each, allowed)
    checks.one_of("optimisation", parsed.optimisation, LEVELS)
    for threads in parsed.threads:
        checks.count("threads", threads)
    checks.count("batch", 1 if parsed.batch is None else parsed.batch)
    for version in parsed.versions:
        if not isinstance(version, str) or not RELEASE.fullmatch(version):
            raise ManifestError(
                "options/versions", f'{json.dumps(version)} is no version such as "{VERSION}"'
            )
    if not ways(parsed):
        fact = "Node runs wasm alone, and no other host is named: nothing would be run"
        raise ManifestError("options/hosts", fact, 'Add "chromium" to hosts, or "wasm" to backends')
    return parsed


def _settled(option: str, values: Any) -> None:
    if not isinstance(values, list | tuple):
        fact = f"{json.dumps(values)} is no list"
        raise ManifestError(f"options/{option}", fact, "Leave it out for the default")
    checks.distinct(option, values)


def environment(version: str) -> Environment:
    """The files of a release, by the lock that is kept here; a release without one is locked when first asked for."""
    kept = LOCKS / version
    lock = {role: str(kept / name) for role, name in LOCK_FILES.items()} if kept.is_dir() else {}
    return Environment(f"{NAME}-{version}", "node", (f"{NAME}@{version}",), lock)


def ways(options: Options) -> dict[str, Way]:
    """Every combination of version, host, backend and threads that there is."""
    return dict(_ways(options))


def _ways(options: Options) -> Iterator[tuple[str, Way]]:
    for version, host, backend in product(options.versions, options.hosts, options.backends):
        if host == "node" and backend != "wasm":
            continue
        for threads in options.threads if backend == "wasm" else (1,):  # threads are of the processor
            parts = [version] if len(options.versions) > 1 else []
            parts += [host, backend, *([f"{threads}-threads"] if threads > 1 else [])]
            yield "-".join(parts), _way(options, version, host, {"backend": backend, "threads": threads})


def _way(options: Options, version: str, host: str, read: Mapping[str, Any]) -> Way:
    told: dict[str, Any] = {"host": host, "optimisation": options.optimisation, **read}
    if options.batch is not None:
        told["batch"] = options.batch
    if nodejs.find() is None:  # npm, which installs the files for every host, comes with it
        return Way(told, unavailable=f"there is no Node on this machine: {nodejs.REMEDY}")
    if host == "node":
        machine = {"node": str(nodejs.find())}
        return Way(told, environment=environment(version), machine=machine, files=_programs(host))
    program = chromium.find(options.executable)
    if program is None:
        return Way(told, unavailable=chromium.missing(options.executable))
    if options.executable is not None:
        told["executable"] = options.executable
    machine = {"chromium": chromium.binary(program)}
    return Way(told, environment=environment(version), machine=machine, files=_programs(host))


def _programs(host: str) -> dict[str, str]:
    """Our own programs for a host: they are no Python, and decide what comes out all the same."""
    return {name: str(HERE / name) for name in PROGRAMS[host]}
