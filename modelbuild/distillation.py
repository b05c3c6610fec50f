"""The targets from the teacher to the student: what the teacher says of every data set, how large the student may be,
and what it learns from both.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from modelbuild import datasets, search
from modelbuild.declare import GivenTeacher, Model, OnnxTeacher, Student, Teacher, WeightsSource
from modelbuild.targets import Recipe, Target, module_of

_HERE = "modelbuild.recipes"
TRAIN_TEACHER = Recipe(f"{_HERE}.teacher:train")
GIVEN_TEACHER = Recipe(f"{_HERE}.given:teacher_weights")
ONNX_TEACHER = Recipe(f"{_HERE}.given:teacher_onnx")
TEACHER_LAYERS = Recipe(f"{_HERE}.alignment:teacher_layers")
TEACHER_OUTPUTS = Recipe(f"{_HERE}.teacher_outputs:outputs")
CAPACITY = Recipe(f"{_HERE}.capacity:measure")
NETWORK = Recipe(f"{_HERE}.capacity:choose")
DISTIL = Recipe(f"{_HERE}.distil:distil")
WEIGHTS = Recipe(f"{_HERE}.source:weights")

LEARNT = ("train", "unlabelled")  # data that a student is trained on
JUDGED = ("validation", "evaluation")  # data that it is judged on


def targets(model: Model) -> Iterator[Target]:
    """From the teacher to the student, whose weights are given, distilled, or the best of a search."""
    source = model.source
    if isinstance(source, WeightsSource):
        net = {"module": source.module, "args": source.args}
        doc, code = "the given weights", (module_of(source.module),)
        yield Target(
            f"{model.name}:student", WEIGHTS, doc, net, files={"weights": source.weights}, modules=code
        )
    if model.teacher is not None and model.student is not None:
        yield _teacher(model, model.teacher)
        if model.student.capacity is not None and model.search is None:
            yield from _capacity(model, model.student)
        if _aligned(model):
            yield _layers(model, model.teacher, model.student)
        yield from _outputs(model, model.teacher)
        if model.search is None:
            yield _distilled(model, model.student)
        else:
            yield from search.targets(model, model.search, model.student, _shared(model))


def code(model: Model) -> tuple[str, ...]:
    """The modules that the network which ships may be made of."""
    if isinstance(model.source, WeightsSource):
        return (module_of(model.source.module),)
    if model.student is None:
        return ()
    if model.search is None:
        return (module_of(model.student.module),)
    return search.code(model.search, model.student)


def said(model: str, part: str) -> str:
    """The target with what the teacher says of one data set."""
    return f"{model}:teacher.outputs.{part}"


def _teacher(model: Model, teacher: Teacher) -> Target:
    name = f"{model.name}:teacher"
    if isinstance(teacher, OnnxTeacher):
        told = {"through": teacher.through, "args": teacher.args}
        return Target(name, ONNX_TEACHER, "the teacher, an ONNX file", told, files={"model": teacher.onnx})
    net, modules = {"module": teacher.module, "args": teacher.args}, (module_of(teacher.module),)
    if isinstance(teacher, GivenTeacher):
        params = {**net, "ignore": list(teacher.ignore)}
        files = {"weights": teacher.weights}
        return Target(name, GIVEN_TEACHER, "the teacher, as given", params, files=files, modules=modules)
    params = {**net, "task": teacher.task, "train": teacher.train}
    inputs = {"train": datasets.target_of(model.name, "train")}
    return Target(name, TRAIN_TEACHER, "the trained teacher", params, inputs, modules=modules)


def _code_of(teacher: Teacher) -> tuple[str, ...]:
    named = teacher.through if isinstance(teacher, OnnxTeacher) else teacher.module
    return (module_of(named),) if named else ()


def _students(model: Model) -> list[Student]:
    """All that may be trained."""
    if model.student is None:
        return []
    return [model.student] if model.search is None else search.students(model.search, model.student)


def _asked(model: Model, of: str) -> Mapping[str, Any] | None:
    """What the first student that says anything of it asks of its "layers", or of its "initial" weights."""
    return next((each.distil[of] for each in _students(model) if of in each.distil), None)


def _aligned(model: Model) -> bool:
    return _asked(model, "layers") is not None or _asked(model, "initial") is not None


def _layers(model: Model, teacher: Teacher, student: Student) -> Target:
    """Which of the teacher's layers the students look at, by itself: other widths label nothing anew."""
    nets = [{"module": student.module, "args": student.args}]
    params: dict[str, Any] = {
        "students": nets if model.search is None else search.networks(model.search, student),
        "layers": _asked(model, "layers"),
        "initial": _asked(model, "initial"),
    }
    inputs = {"teacher": f"{model.name}:teacher", **_network(model, student)}
    modules = (*code(model), *_code_of(teacher))
    doc = "the teacher's layers that the student is aligned with"
    return Target(f"{model.name}:teacher.layers", TEACHER_LAYERS, doc, params, inputs, modules=modules)


def _outputs(model: Model, teacher: Teacher) -> Iterator[Target]:
    layers = _asked(model, "layers")
    for part in (*LEARNT, *JUDGED):
        if part not in model.data:
            continue
        hidden = layers is not None and part in LEARNT
        inputs = {"teacher": f"{model.name}:teacher", "data": datasets.target_of(model.name, part)}
        yield Target(
            said(model.name, part),
            TEACHER_OUTPUTS,
            f"the teacher's outputs on the {part} data",
            {"hidden": hidden, "store": layers.get("store", "float32") if layers and hidden else "float32"},
            {**inputs, **({"layers": f"{model.name}:teacher.layers"} if hidden else {})},
            modules=_code_of(teacher),
            tools=("onnxruntime", "onnx") if isinstance(teacher, OnnxTeacher) else (),
        )


def _capacity(model: Model, student: Student) -> Iterator[Target]:
    """What the student takes, and which network it is then: another budget need not be another network."""
    name, modules = model.name, (module_of(student.module),)
    params = {"module": student.module, "args": student.args, **capacity(model)}
    inputs = {"evaluation": datasets.target_of(name, "evaluation")}
    yield Target(
        f"{name}:capacity", CAPACITY, "the memory the student takes", params, inputs, modules=modules
    )
    yield Target(
        f"{name}:student.network", NETWORK, "the student's network", {}, {"capacity": f"{name}:capacity"}
    )


def capacity(model: Model) -> dict[str, Any]:
    """What the student may take, in bytes, and the platform whose device says so where the manifest asks for that."""
    if model.student is None or model.student.capacity is None:
        return {}
    budget, fraction = model.student.capacity["budget"], model.student.capacity["fraction"]
    if budget != "lowest":
        return {"capacity": {"budget": budget, "fraction": fraction}, "platform": ""}
    named = {name: each.memory for name, each in model.platforms.items() if each.memory is not None}
    platform = min(named, key=lambda name: (named[name], name))
    return {"capacity": {"budget": named[platform], "fraction": fraction}, "platform": platform}


def _network(model: Model, student: Student) -> dict[str, str]:
    solved = student.capacity is not None and model.search is None
    return {"network": f"{model.name}:student.network"} if solved else {}


def _inputs(model: Model) -> dict[str, str]:
    """What any student of this model is trained from, by role."""
    name, parts = model.name, [part for part in LEARNT if part in model.data]
    aligned = {"layers": f"{name}:teacher.layers"} if _aligned(model) else {}
    initial = {"teacher": f"{name}:teacher"} if _asked(model, "initial") is not None else {}
    return {
        **{part: datasets.target_of(name, part) for part in parts},
        **{f"said.{part}": said(name, part) for part in parts},
        **aligned,
        **initial,
    }


def _shared(model: Model) -> search.Shared:
    """What the candidates of a search have in common."""
    part = "validation" if "validation" in model.data else "evaluation"
    judged = {"data": datasets.target_of(model.name, part)}
    if model.gates.teacher is not None:
        judged["said"] = said(model.name, part)
    asked = capacity(model)
    measured = {"evaluation": datasets.target_of(model.name, "evaluation")} if asked else {}
    return search.Shared(_inputs(model), judged, measured, asked, lambda each: learnt_by(model, each))


def _distilled(model: Model, student: Student) -> Target:
    params: Mapping[str, Any] = {
        "network": {"module": student.module, "args": student.args},
        "distil": student.distil,
        "train": student.train,
    }
    inputs = {**_inputs(model), **_network(model, student)}
    if "network" in inputs:
        params = {name: value for name, value in params.items() if name != "network"}
    doc, modules = "the student, distilled", learnt_by(model, student)
    return Target(f"{model.name}:student", DISTIL, doc, params, inputs, modules=modules)


def learnt_by(model: Model, student: Student) -> tuple[str, ...]:
    """The project's code that a training runs: the network, its losses, and the teacher where it starts from it."""
    called = [student.module, *_losses(student.distil)]
    teacher = _code_of(model.teacher) if model.teacher is not None and "initial" in student.distil else ()
    return tuple(dict.fromkeys((*map(module_of, called), *teacher)))


def _losses(distil: Mapping[str, Any]) -> Iterator[str]:
    soft = distil.get("soft", {})
    for each in (distil.get("task"), *(soft if isinstance(soft, list) else [soft])):
        if isinstance(each, Mapping) and ":" in str(each.get("kind", "")):
            yield each["kind"]
