"""The targets of a search: students described, trained in cycles of which each leaves fewer, and the best one chosen.

The graph is the same whatever a training gives. What is decided on the way, who goes on and who is proposed, is the
output of a small target, and only what it says differently is trained anew: early cut-off does the rest.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from modelbuild import presets
from modelbuild.declare import Gates, Model, Options, Search, Student
from modelbuild.errors import ManifestError
from modelbuild.targets import Recipe, Target, module_of
from modelbuild.wording import pointer

_HERE = "modelbuild.recipes"
DESCRIBE = Recipe(f"{_HERE}.search:describe")
DRAW = Recipe(f"{_HERE}.search_draws:describe")
TRAIN = Recipe(f"{_HERE}.search_training:train")
ASSESS = Recipe(f"{_HERE}.search_quality:assess")
GOES_ON = Recipe(f"{_HERE}.search_cycles:goes_on")
HISTORY = Recipe(f"{_HERE}.search_cycles:history")
CYCLE = Recipe(f"{_HERE}.search_cycles:cycle")
CHOOSE = Recipe(f"{_HERE}.search_cycles:choose")

MOST_CYCLES = 20
OVERRIDES = ("module", "args", "distil", "train")  # what a candidate may have other than the student
DRAWN = ("draw-", "proposal-")  # how the names of candidates that nobody listed begin
RESERVED = frozenset(f"{kind}{at}" for kind in ("cycle", "history-") for at in range(1, MOST_CYCLES + 1))
TRIED = 64  # values of one range of whole numbers that are looked at before anything is drawn


class Shared(NamedTuple):
    """What the candidates have in common.

    By role the targets they are `trained` from, `judged` on ("data", and "said" of the teacher where there is a gate
    on that) and `measured` with ("evaluation", where there is a capacity). `capacity` is what they may take, as the
    capacity recipe has it, empty where nothing is said. `code` names the project's modules that a training runs.
    """

    trained: Mapping[str, str]
    judged: Mapping[str, str]
    measured: Mapping[str, str]
    capacity: Options
    code: Callable[[Student], tuple[str, ...]]


class Candidate(NamedTuple):
    """One student; `first` is the cycle from which on it is trained, `drawn` whether it comes from the ranges."""

    name: str
    first: int
    drawn: bool
    params: Options
    students: tuple[Student, ...]


# -- the language of overrides and ranges


def merged(base: Options, overrides: Options) -> dict[str, Any]:
    """`base` with `overrides` merged in deeply; null takes out what the base has.

    Source: JSON Merge Patch, RFC 7396.
    """
    found = dict(base)
    for name, value in overrides.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, Mapping):
            inner = found.get(name)
            found[name] = merged(inner if isinstance(inner, Mapping) else {}, value)
        else:
            found[name] = value
    return found


def placed(student: Options, path: str, value: Any) -> dict[str, Any]:
    """`student` with `value` at the dotted `path`, such as distil.soft.temperature; a list is entered by index.

    Raises ManifestError where something on the way is neither an object nor a list that long.
    """
    found: dict[str, Any] = _placed(student, path.split("."), value, path)
    return found


def _placed(at: Any, steps: list[str], value: Any, path: str) -> Any:
    if not steps:
        return value
    step, *rest = steps
    if isinstance(at, Mapping):
        return {**at, step: _placed(at.get(step, {}), rest, value, path)}
    if isinstance(at, list) and step.isdecimal() and int(step) < len(at):
        return [*at[: int(step)], _placed(at[int(step)], rest, value, path), *at[int(step) + 1 :]]
    fact = f'there is no "{step}" to draw: the student has {at!r} there'
    raise ManifestError(f"search/ranges/{path}", fact, "Name what can be replaced by a value of the range.")


def told(student: Student) -> dict[str, Any]:
    """A student as a candidate is written down."""
    return {name: getattr(student, name) for name in OVERRIDES}


def made(student: Student, changed: Options) -> Student:
    """The student that `told` told, once it is `changed`."""
    fields = {name: changed[name] for name in OVERRIDES}
    return student._replace(**{**fields, "distil": presets.expanded(fields["distil"])})


def networks(search: Search, student: Student) -> list[dict[str, Any]]:
    """The networks that a search may come to, "module" and "args", each once.

    Of those that are drawn, the student with one range after the other at every value, or at its ends.
    """
    found = [{"module": each.module, "args": dict(each.args)} for each in students(search, student)]
    return [each for at, each in enumerate(found) if each not in found[:at]]


def code(search: Search, student: Student) -> tuple[str, ...]:
    """The modules that these networks are made of."""
    return tuple(sorted({module_of(each.module) for each in students(search, student)}))


def students(search: Search, student: Student) -> list[Student]:
    """Those listed, and those that stand for all that may be drawn."""
    return [*_listed(search, student).values(), *_drawn(search, student)]


def _listed(search: Search, student: Student) -> dict[str, Student]:
    return {name: made(student, merged(told(student), each)) for name, each in search.candidates.items()}


def _drawn(search: Search, student: Student) -> list[Student]:
    """Students that stand for all that may be drawn."""
    if not search.samples and not any(cycle.get("proposals", 0) for cycle in search.cycles):
        return []
    varied = (
        made(student, placed(told(student), path, value))
        for path, each in sorted(search.ranges.items())
        for value in _values(each)
    )
    return [student, *varied]


def _values(each: Options) -> Iterable[Any]:
    """What stands for all values of a range."""
    if "choices" in each:
        return list(each["choices"])
    low, high, step = each["low"], each["high"], each.get("step", 1)
    whole = all(isinstance(value, int) for value in (low, high, step))
    return range(low, high + 1, step) if whole and (high - low) // step < TRIED else [low, high]


# -- the targets


def targets(model: Model, search: Search, student: Student, shared: Shared) -> Iterator[Target]:
    """All of them, from the candidates to MODEL:student. Raises ManifestError for a search that cannot be."""
    for refused in _refusals(model, search):
        raise refused
    layout = _Layout(model.name, model.gates, search, shared, tuple(_candidates(search, student)))
    yield from layout.targets()


def _refusals(model: Model, search: Search) -> Iterator[ManifestError]:
    """What would be found out after a training, or never."""
    if model.gates.teacher is None and model.gates.task is None:
        fact = "no gate says what the student must reach, so no candidate is better than another"
        yield ManifestError(f"{model.place}#/search", fact, "Add gates/teacher, gates/task, or both.")
    named = [
        ("candidates", n, "train", "steps")
        for n, o in search.candidates.items()
        if "steps" in o.get("train", {})
    ]
    for steps in [*named, *(("ranges", path) for path in search.ranges if path == "train.steps")]:
        fact = "how long candidates are trained is said by the cycles alone"
        yield ManifestError(f"{model.place}#/search{pointer(steps)}", fact, "Leave it out.")


def _candidates(search: Search, student: Student) -> Iterator[Candidate]:
    for name, each in _listed(search, student).items():
        yield Candidate(name, 1, False, {"student": told(each)}, (each,))
    drawn = tuple(_drawn(search, student))
    counts = [search.samples, *(cycle.get("proposals", 0) for cycle in search.cycles[1:])]
    for cycle, count in enumerate(counts, start=1):
        for at in range(1, count + 1):
            name = f"{DRAWN[0]}{at}" if cycle == 1 else f"{DRAWN[1]}{cycle}-{at}"
            draw = {"seed": search.seed, "cycle": cycle, "index": at}
            params = {"student": told(student), "ranges": search.ranges, "draw": draw}
            yield Candidate(name, cycle, True, params, drawn)


def cycles(names: Iterable[str]) -> list[str]:
    """Those of the `names` of a model's targets, without the model, that hold a cycle's table, in their order."""
    return [name for name in names if name.partition(".")[2] in RESERVED and name.startswith("search.cycle")]


class _Layout(NamedTuple):
    """One search laid out."""

    model: str
    gates: Gates
    search: Search
    shared: Shared
    candidates: tuple[Candidate, ...]

    def targets(self) -> Iterator[Target]:
        for number in range(1, len(self.search.cycles) + 1):
            fresh = [each for each in self.candidates if each.first == number]
            if number > 1 and fresh:
                yield self.history(number)
            yield from map(self.described, fresh)
            for each in self.of(number):
                yield from self.trained(each, number)
            yield self.cycle(number)
        yield self.chosen()

    def named(self, *names: object) -> str:
        return f"{self.model}:search." + ".".join(map(str, names))

    def of(self, number: int) -> list[Candidate]:
        """The candidates that there are by cycle `number`."""
        return [each for each in self.candidates if each.first <= number]

    def described(self, each: Candidate) -> Target:
        history = {"history": self.named(f"history-{each.first}")} if each.first > 1 else {}
        return Target(
            self.named(each.name),
            DRAW if each.drawn else DESCRIBE,
            f"the candidate {each.name}",
            {**each.params, **self.shared.capacity},
            {**self.shared.measured, **history},
            modules=tuple(sorted({module_of(student.module) for student in each.students})),
        )

    def history(self, number: int) -> Target:
        """What was found of those drawn before, each in its first cycle: those listed have no part in it."""
        found = [each for each in self.of(number - 1) if each.drawn]
        inputs = {f"candidate.{each.name}": self.named(each.name) for each in found}
        inputs |= {f"assessment.{e.name}": self.named(e.name, f"assessment-{e.first}") for e in found}
        return Target(
            self.named(f"history-{number}"), HISTORY, f"what cycle {number} draws proposals from", {}, inputs
        )

    def trained(self, each: Candidate, number: int) -> Iterator[Target]:
        """Whether it goes on, its training up to the cycle's last step, and how good it is then."""
        this = self.named(each.name, f"cycle{number}")
        inputs = {**self.shared.trained, "candidate": self.named(each.name)}
        if number > each.first:
            go = self.named(each.name, f"on-{number}")
            before = {"cycle": self.named(f"cycle{number - 1}")}
            yield Target(
                go, GOES_ON, f"whether {each.name} is in cycle {number}", {"name": each.name}, before
            )
            inputs |= {"go": go, "before": self.named(each.name, f"cycle{number - 1}")}
        params = {"until": self.search.cycles[number - 1]["steps"], "steps": self.search.cycles[-1]["steps"]}
        code = {module for student in each.students for module in self.shared.code(student)}
        doc = f"{each.name}, trained up to step {params['until']}"
        yield Target(this, TRAIN, doc, params, inputs, modules=tuple(sorted(code)))
        yield self.assessed(each, number, this)

    def assessed(self, each: Candidate, number: int, trained: str) -> Target:
        gates = {"teacher": self.gates.teacher, "task": self.gates.task}
        outputs = self.gates.runtime.get("outputs", {})
        code = {module_of(student.module) for student in each.students}
        code.update(module for gate in gates.values() for module in metrics(gate))
        return Target(
            self.named(each.name, f"assessment-{number}"),
            ASSESS,
            f"what the gates would say of {each.name} after cycle {number}",
            {"gates": {name: gate for name, gate in gates.items() if gate is not None}, "outputs": outputs},
            {**self.shared.judged, "student": trained},
            modules=tuple(sorted(code)),
        )

    def cycle(self, number: int) -> Target:
        """The table of all candidates, and who of them goes on."""
        found, last = self.of(number), number == len(self.search.cycles)
        inputs = {f"candidate.{each.name}": self.named(each.name) for each in found}
        inputs |= {f"assessment.{e.name}": self.named(e.name, f"assessment-{number}") for e in found}
        if number > 1:
            inputs["before"] = self.named(f"cycle{number - 1}")
        params = {
            "cycle": number,
            "cycles": len(self.search.cycles),
            "steps": self.search.cycles[number - 1]["steps"],
            "keep": None if last else self.search.cycles[number]["keep"],
            "overrides": self.search.candidates,
            **self.shared.capacity,
        }
        return Target(
            self.named(f"cycle{number}"), CYCLE, f"who goes on after cycle {number}", params, inputs
        )

    def chosen(self) -> Target:
        last = len(self.search.cycles)
        found = {f"student.{e.name}": self.named(e.name, f"cycle{last}") for e in self.of(last)}
        doc = "the student, the smallest that passes the gates"
        return Target(
            f"{self.model}:student", CHOOSE, doc, {}, {"cycle": self.named(f"cycle{last}"), **found}
        )


def metrics(gate: Any) -> tuple[str, ...]:
    """The project's modules whose callables a gate measures with."""
    demands = [] if gate is None else gate if isinstance(gate, list) else [gate]
    return tuple(sorted({module_of(each["metric"]) for each in demands if ":" in each["metric"]}))
