"""Who runs ONNX Runtime Web, Node or a headless Chromium, and what one of them answers for a model and its inputs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime.ports import one_call
from modelbuild.runtimes.onnxruntime_web import chromium, exchange, node, placement
from modelbuild.runtimes.onnxruntime_web.exchange import PLACE, Call, Ports
from modelbuild.runtimes.onnxruntime_web.server import Posted, Site
from modelbuild.samples import Port
from modelbuild.tensors import Arrays

HERE = Path(__file__).parent
PAGE = ("page.html", "page.mjs", "answer.mjs")
Backend = Literal["wasm", "webgpu"]
SECONDS: dict[str, float] = {"wasm": 120, "webgpu": 600}  # a processor that plays GPU is slow
ASIDE = ("log", "calls", "error", "stage", "version")  # of what a host tells, no facts for the record
COMPILED_IN = re.compile(r"/\S*/(?=\w+\.(cc|h):\d)")
NO_WEBGPU = 'Take "webgpu" out of "backends", or name another browser with "executable"'


class Host(NamedTuple):
    """`program` is the path of a Node or of a Chromium."""

    kind: Literal["node", "chromium"]
    program: str


class Settings(NamedTuple):
    """`batch` is samples a call, None leaves it to the model; `optimisation` as ONNX Runtime Web names its levels."""

    backend: Backend = "wasm"
    threads: int = 1
    batch: int | None = None
    optimisation: str = "all"


class Answer(NamedTuple):
    """Outputs by name, samples first; the fields are those of `modelbuild.runtimes.base.Run`."""

    outputs: Arrays
    version: str
    backend: str
    placement: Mapping[str, str]
    facts: Mapping[str, Any]


def answer(host: Host, dist: Path, model: Path, inputs: Arrays, settings: Settings) -> Answer:
    """Run the ONNX file `model` on every sample of `inputs`; `dist` is the folder of that name in onnxruntime-web.

    io.json beside the model tells its ports. Raises RecipeError for inputs that do not fit, a model that does not
    load or stops, a host that dies or is silent, and for anything that is not as asked: the version, the number of
    threads, WebGPU on which no node ran.
    """
    ports = Ports.read(model.with_name("io.json"))
    runs = exchange.calls(ports, inputs, settings.batch)
    gives = [port.name for port in ports.outputs]
    about, data = _ran(
        host, dist, model, exchange.files(ports.inputs, gives, inputs, runs, _told(settings)), settings
    )
    outputs = exchange.outputs(ports, runs, about["calls"], data)
    facts = {name: value for name, value in about.items() if name not in ASIDE}
    return Answer(outputs, about["version"], _backend(about, settings), placement.read(about["log"]), facts)


def values(
    host: Host,
    dist: Path,
    model: bytes,
    takes: Sequence[Port],
    names: Sequence[str],
    inputs: Arrays,
    settings: Settings,
) -> Arrays:
    """The outputs `names` of the ONNX file `model`, as they come, of one call on all samples of `inputs`.

    `takes` are the ports of its inputs; one that is named among the outputs is left out. Raises RecipeError as
    `answer` does, also for samples that it does not take at once.
    """
    count = one_call(PLACE, takes, inputs)
    gives = [name for name in dict.fromkeys(names) if name not in inputs]
    if not gives:
        return {}
    files = exchange.files(takes, gives, inputs, (Call(0, count, count),), _told(settings))
    about, data = _ran(host, dist, model, files, settings)
    return exchange.values(gives, about["calls"][0], data)


def _told(settings: Settings) -> dict[str, Any]:
    return {"backend": settings.backend, "threads": settings.threads, "optimisation": settings.optimisation}


def _ran(host: Host, dist: Path, model: Path | bytes, job: Mapping[str, bytes], settings: Settings) -> Posted:
    """What the host answers, once it is known that all went as asked."""
    found = _asked(host, dist, {"model.onnx": model, **job}, settings)
    _check_error(found.about)
    _check_version(found.about, dist)
    _check_threads(found.about, settings)
    _check_placement(placement.read(found.about["log"]), settings)
    return found


def _asked(host: Host, dist: Path, files: Mapping[str, Path | bytes], settings: Settings) -> Posted:
    seconds = SECONDS[settings.backend]
    if host.kind == "chromium":
        return _in_chromium(host.program, dist, files, settings.backend == "webgpu", seconds)
    if settings.backend == "webgpu":
        raise RecipeError(PLACE, "Node has no WebGPU", 'Name a Chromium with "executable"')
    try:
        return node.answer(host.program, files, dist, seconds)
    except TimeoutError as error:
        raise _silent("Node", error, "") from error


def _in_chromium(
    program: str, dist: Path, files: Mapping[str, Path | bytes], webgpu: bool, seconds: float
) -> Posted:
    library = {f"dist/{path.name}": path for path in dist.iterdir() if path.suffix in (".mjs", ".wasm")}
    own = {name: HERE / name for name in PAGE}
    with (
        Site({**library, **own, **files}) as site,
        chromium.page(program, f"{site.url}page.html", webgpu) as browser,
    ):
        try:
            return site.wait(seconds, browser.check)
        except TimeoutError as error:
            raise _silent("Chromium", error, browser.last_words()) from error


def _silent(who: str, error: TimeoutError, last_words: str) -> RecipeError:
    return RecipeError(PLACE, f"{who}: {error}{last_words}", "Evaluate fewer samples, or a smaller model")


def _check_error(about: Mapping[str, Any]) -> None:
    if "error" not in about:
        return
    said = _in_short(about["error"])
    version = about.get("version", "")
    fact, remedy = {
        "load": (
            f"version {version} does not load the model: {said}",
            "Export to a lower opset, or use a newer ONNX Runtime Web",
        ),
        "run": (f"the model stopped: {said}", ""),
        "adapter": ("the browser has no WebGPU adapter", NO_WEBGPU),
        "start": (f"it cannot be started: {said}", "Install the packages again"),
    }[about["stage"]]
    raise RecipeError(PLACE, fact, remedy)


def _in_short(message: str) -> str:
    """The first line that ONNX Runtime itself said, without the folders of the machine that compiled it."""
    lines = message.rpartition("ERROR_MESSAGE: ")[2].strip().splitlines() or ["it does not say why"]
    return COMPILED_IN.sub("", lines[0]).rstrip(".")


def _check_version(about: Mapping[str, Any], dist: Path) -> None:
    installed = json.loads((dist.parent / "package.json").read_bytes())["version"]
    if about["version"] != installed:
        fact = f"the package is version {installed}, what ran calls itself {about['version']}"
        raise RecipeError(PLACE, fact, "Install the packages again")


def _check_threads(about: Mapping[str, Any], settings: Settings) -> None:
    if settings.threads > 1 and not about.get("isolated", True):
        fact = f"the page is not cross-origin isolated, so there are no {settings.threads} threads"
        raise RecipeError(PLACE, fact, 'Name another browser with "executable", or ask for one thread')
    if about["threads"] != settings.threads:
        fact = f"{settings.threads} threads were asked for, {about['threads']} ran"
        raise RecipeError(PLACE, fact, 'Ask for fewer "threads"')


def _check_placement(placed: Mapping[str, str], settings: Settings) -> None:
    if settings.backend == "webgpu" and set(placed.values()) <= {placement.CPU}:
        many = ", ".join(placed) or "it does not say where nodes ran"
        raise RecipeError(PLACE, f"nothing ran on WebGPU: the processor ran {many}", NO_WEBGPU)


def _backend(about: Mapping[str, Any], settings: Settings) -> str:
    threads = f", {settings.threads} threads," if settings.threads > 1 else ""
    return f"{settings.backend}{threads} in {_name(about)}"


def _name(about: Mapping[str, Any]) -> str:
    if "node" in about:
        return f"Node {about['node']}"
    brands = {each["brand"]: each["version"] for each in about["brands"]}
    return f"Chromium {brands.get('Chromium', 'of an unknown version')}"
