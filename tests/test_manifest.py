# ruff: noqa: E501  (tables: one refusal a line)

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelbuild import declare, manifest
from modelbuild.errors import ManifestError
from modelbuild.limits import LIMITS

ROOT = Path(manifest.__file__).parents[1]
NET = "mine.nets:Net"
GOOD = {
    "model": "digits",
    "data": {"train": {"loader": "mine.data:load", "args": {"part": "train"}}, "evaluation": {"loader": "sklearn-digits"}},
    "teacher": {"module": NET, "args": {"width": 32}, "train": {"steps": 5}},
    "student": {"module": NET},
    "platforms": {"android": {"runtime": "onnxruntime"}},
    "gates": {"teacher": {"metric": "agreement", "min": 0.9}, "task": {"metric": "accuracy", "min": 0.5}},
}  # fmt: skip
SOURCE = {
    "model": "wine",
    "source": {"onnx": "models/wine.onnx"},
    "data": {"evaluation": {"loader": "sklearn-wine"}},
    "platforms": {"server": {"runtime": "onnxruntime"}},
}


class Gone:
    """Takes a value out; its name is the same in every process."""

    def __repr__(self):
        return "gone"


GONE = Gone()


@pytest.fixture
def root(tmp_path):
    """A project with a package `mine` and an ONNX file, and no manifest yet."""
    folder = tmp_path / "project"
    for path, text in {
        "manifests/platforms/ios.json": '{"runtime": "onnxruntime", "threads": 2}',
        "mine/__init__.py": "",
        "mine/data.py": "def load(part): ...",
        "mine/nets.py": "import sys\nif sys:\n    class Net: ...\nOther, _Hidden = Net, 1\ntry:\n    from x import y as Wrapped\nexcept ImportError: ...",
        "mine/star.py": "from x import *",
        "mine/broken.py": "def load(:",
        "mine/inner/plain.txt": "",
        "models/wine.onnx": "onnx",
        "models/wine.safetensors": "weights",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def changed(base, *changes):
    """`base` with the value at each (pointer, value) put in, or taken out where it is GONE."""
    made = copy.deepcopy(base)
    for where, value in changes:
        *steps, last = where.split("/")[1:]
        node = made
        for step in steps:
            node = node.setdefault(step, {}) if isinstance(node, dict) else node[int(step)]
        if value is GONE:
            del node[last]
        else:
            node[last] = value
    return made


def write(root, value, name="x.json"):
    text = value if isinstance(value, str) else json.dumps(value)
    (root / "manifests" / name).write_text(text)


def load(root, value=None, name="x.json", accepted=None):
    if value is not None:
        write(root, value, name)
    return manifest.load(root, set() if accepted is None else accepted)


def refusal(root, value=None, name="x.json"):
    with pytest.raises(ManifestError) as caught:
        load(root, value, name)
    return str(caught.value)


def test_declares_what_the_manifest_says_and_fills_in_the_rest(root):
    ring = [
        ("/data/calibration", {"sample": "train", "count": 256}),
        ("/platforms/ios", "platforms/ios.json"),
    ]
    project = load(root, changed(GOOD, *ring))
    assert project.root == root
    (model,) = project.models
    assert (model.name, model.place, model.description) == ("digits", "manifests/x.json", "")
    assert model.data["train"] == declare.Loaded("train", "mine.data:load", {"part": "train"}, {})
    assert model.data["evaluation"].loader == "modelbuild.zoo.digits:load"
    assert model.data["calibration"] == declare.Sampled("calibration", "train", 256, 0)
    train = {"steps": 5, "batch": 128, "lr": 0.003, "weight_decay": 0.01, "seed": 0}
    assert isinstance(model.teacher, declare.TrainedTeacher)
    assert model.teacher[:3] == (NET, {"width": 32}, {}) and train.items() <= model.teacher.train.items()
    assert model.student[:4] == (NET, {}, None, {})
    assert {**train, "steps": 1000}.items() <= model.student.train.items()
    assert (model.source, model.search) == (None, None)
    assert model.export == manifest.Export(18, {"batch": [1, 64]})
    options = {
        "precision": "float32",
        "format": "onnx",
        "shapes": "free",
        "optimisation": "all",
        "threads": 1,
    }
    android = declare.Platform(
        "android",
        "manifests/x.json#/platforms/android",
        "",
        "onnxruntime",
        True,
        "interpreted",
        None,
        {},
        None,
        options,
    )
    ios = android._replace(
        name="ios", place="manifests/platforms/ios.json", options={**options, "threads": 2}
    )
    assert model.platforms == {"android": android, "ios": ios}
    runtime = {"tolerance": "auto", "decision_flips": 0}
    assert model.gates == manifest.Gates(GOOD["gates"]["teacher"], GOOD["gates"]["task"], runtime)


def test_declares_a_finished_model(root):
    (model,) = load(root, SOURCE).models
    assert model.source == manifest.OnnxSource("models/wine.onnx")
    assert (model.teacher, model.student, model.gates.teacher, model.gates.task) == (None, None, None, None)
    weights = {"module": NET, "weights": "models/wine.safetensors"}
    (model,) = load(root, {**SOURCE, "source": weights}).models
    assert model.source == declare.WeightsSource(NET, {}, "models/wine.safetensors")


def test_reads_every_manifest_in_the_order_of_names_and_nothing_else(root):
    write(root, {**SOURCE, "model": "b"}, "a.json")
    write(root, {**SOURCE, "model": "a"}, "b.json")
    for name in ("digits.lock.json", ".hidden.json", "notes.txt"):
        write(root, "not json", name)
    (root / "manifests/folder.json").mkdir()
    assert [model.name for model in load(root).models] == ["b", "a"]


def test_the_shipped_manifests_are_valid():
    names = [model.name for model in manifest.load(ROOT, set()).models]
    assert {"digits", "wine"} <= set(names)


P = "manifests/x.json"
REFUSALS = [
    # unknown, missing, of the wrong kind
    (("/platfroms", {}), f'{P}#/platfroms: unknown key "platfroms". Did you mean "platforms"?'),
    (("/platforms/android/optimization", "all"), f'{P}#/platforms/android/optimization: unknown key "optimization". Did you mean "optimisation"?'),
    (("/student/budget", {}), f'{P}#/student/budget: unknown key "budget". Known: args, capacity, distil, module, train.'),
    (("/model", GONE), f'{P}: "model" is missing. The model\'s name; targets are named after it, as in digits:teacher.'),
    (("/teacher/module", GONE), f'{P}#/teacher: "module" is missing. The network\'s class'),
    (("/data/evaluation/loader", GONE), f'{P}#/data/evaluation: "loader" is missing. A built-in data set'),
    (("/data/few", {"sample": "train"}), f'{P}#/data/few: "count" is missing. How many samples to take.'),
    (("/teacher/train/steps", "600"), f'{P}#/teacher/train/steps: "600" is a string, not a whole number'),
    (("/teacher/train/steps", 600.0), f"{P}#/teacher/train/steps: 600.0 is a number with a decimal point, not a whole number"),
    (("/teacher/train/steps", True), f"{P}#/teacher/train/steps: true is true or false, not a whole number"),
    (("/teacher", None), f"{P}#/teacher: null is null, not an object"),
    (("/platforms/android", 3), f"{P}#/platforms/android: 3 is a whole number, not an object or a string"),
    # one of a few, or within a range
    (("/platforms/android/precision", "floot32"), f'{P}#/platforms/android/precision: "floot32" is not one of float32. Did you mean "float32"?'),
    (("/platforms/android/optimisation", "extnded"), f'{P}#/platforms/android/optimisation: "extnded" is not one of disabled, basic, extended, all. Did you mean "extended"?'),
    (("/gates/runtime", {"tolerance": "atuo"}), f'{P}#/gates/runtime/tolerance: "atuo" is not one of auto. Did you mean "auto"?'),
    (("/gates/runtime", {"tolerance": {}}), f"{P}#/gates/runtime/tolerance: says nothing. Give one of max_abs, max_rel, l1, rmse, sqnr_db, cosine."),
    (("/gates/runtime", {"tolerance": {"cosine": 1.5}}), f"{P}#/gates/runtime/tolerance/cosine: 1.5 is more than 1"),
    (("/gates/teacher/min", 0), f"{P}#/gates/teacher/min: 0 is met by anything. Say more than 0, at most 1"),
    (("/gates/teacher/metric", "agrement"), f'{P}#/gates/teacher/metric: "agrement" is not one of agreement, cosine, max_abs, rmse, l1. Did you mean "agreement"? Your own is package.module:callable'),
    (("/gates/task", {"metric": "rmse"}), f'{P}#/gates/task: rmse has no "max". A gate without a limit checks nothing'),
    (("/gates/task", {"metric": "rmse", "max": 1, "min": 0.5}), f'{P}#/gates/task/min: no such demand on rmse. It has a "max"'),
    (("/gates/runtime", {"tolerance": {"max_rel": 1}}), f"{P}#/gates/runtime/tolerance/max_rel: 1 is not less than 1"),
    (("/export", {"opset": 17}), f"{P}#/export/opset: 17 is less than 18"),
    (("/teacher/train/lr", 0), f"{P}#/teacher/train/lr: 0 is not more than 0"),
    (("/export", {"dynamic": {"batch": [1]}}), f"{P}#/export/dynamic/batch: [1] holds 1 values, not 2"),
    (("/export", {"dynamic": {"batch": [8, 2]}}), f"{P}#/export/dynamic/batch: the smallest batch, 8, is larger than the largest, 2. Write the smaller number first."),
    (("/student/distil", {"task": 0, "soft": {"weight": 0}}), f"{P}#/student/distil: every loss has a weight of 0, so nothing would be learnt. Give one of them a weight."),
    # gates: one demand or a list of them
    (("/gates/task", []), f"{P}#/gates/task: [] holds 0 values"),
    (("/gates/task", "accuracy"), f'{P}#/gates/task: "accuracy" is a string, not an object or a list'),
    (("/gates/task", [{"metric": "accuracy", "min": 0.5}, 3]), f"{P}#/gates/task/1: 3 is a whole number, not an object"),
    (("/gates/task", [{"metric": "accuracy", "min": 0.5}, {"metric": "rmse"}]), f'{P}#/gates/task/1: rmse has no "max"'),
    (("/gates/task", [{"metric": "rmse", "max": -1}]), f"{P}#/gates/task/0/max: -1 is met by nothing"),
    (("/gates/task", {"metric": "accuracy", "min": 0.5, "limit": 1}), f'{P}#/gates/task/limit: unknown key "limit"'),
    (("/gates/task", {"metric": "accuracy", "min": 0.5, "args": {"a": 1}}), f"{P}#/gates/task/args: no such demand here"),
    (("/gates/task", [{"metric": "l1", "max": 1}, {"metric": "l1", "max": 2, "output": "y"}]), f'{P}#/gates/task/1: a demand before it is on l1 of the same output. Keep one of the two, or name another "output" in each'),
    (("/gates/teacher", {"metric": "mine.data:load", "max": 1, "min": 1}), f'{P}#/gates/teacher: gives both "min" and "max". Say "min" where more is better, "max" where less is'),
    (("/gates/teacher", {"metric": "mine.data:load"}), f'{P}#/gates/teacher: gives neither "min" nor "max"'),
    (("/gates/teacher", {"metric": "mine.data:load", "max": 1, "args": {"a-b": 1}}), f"{P}#/gates/teacher/args/a-b"),
    (("/gates/teacher", {"metric": "accuracy", "min": 0.5}), f'{P}#/gates/teacher/metric: "accuracy" is not one of agreement'),
    # names
    (("/model", "Digits"), f'{P}#/model: "Digits" is not a valid name. The model\'s name; targets'),
    (("/model", "digits\n"), f'{P}#/model: "digits\\n" is not a valid name.'),
    (("/model", "d" * (LIMITS.model_name_chars + 1)), "is longer than 64 characters"),
    (("/data/my.set", {"loader": "sklearn-wine"}), f'{P}#/data/my.set: "my.set" is not a valid name. A name is a lower-case letter, then'),
    (("/platforms/ios:1", {"runtime": "onnxruntime"}), f'{P}#/platforms/ios:1: "ios:1" is not a valid name. A name is a lower-case letter, then'),
    (("/teacher/args/a-b", 1), f'{P}#/teacher/args/a-b: "a-b" is not a valid name. A keyword argument is a letter'),
    *((("/platforms/" + name, {"runtime": "onnxruntime"}), f'{P}#/platforms/{name}: "{name}" is the name of another target. Call it after where')
      for name in ("data", "teacher", "student", "reference", "onnx", "verdict", "report", "gate", "source", "noise", "repro",
                   "capacity", "search")),
    # parts that belong together
    (("/source", {"onnx": "models/wine.onnx"}), f'{P}#/source: "source" stands beside "teacher". A model is either distilled here or finished elsewhere: keep one of the two.'),
    (("/student", GONE), f'{P}#/teacher: there is a teacher without a student. Add "student", the network that ships.'),
    (("/data/train", GONE), f'{P}#/data: there is a teacher and no train data. Add "train", or'),
    (("/data/evaluation", GONE), f'{P}#/data: there is no evaluation data. Add "evaluation": every gate is measured on it.'),
    (("/platforms", {}), f"{P}#/platforms: there are no platforms. Add one, such as"),
    (("/gates/task/min", GONE), f'{P}#/gates/task: accuracy has no "min". A gate without a limit checks nothing'),
    (("/data/few", {"sample": "trian", "count": 2}), f'{P}#/data/few/sample: there is no data set "trian". Did you mean "train"?'),
    # code
    (("/data/train/loader", "sklearn-digit"), f'{P}#/data/train/loader: there is no built-in data set "sklearn-digit". Did you mean "sklearn-digits"? Your own is package.module:callable.'),
    (("/teacher/module", "mine.nets.Net"), f'{P}#/teacher/module: "mine.nets.Net" is not of the form package.module:callable. For example "modelbuild.zoo.convnet:ConvNet".'),
    (("/teacher/module", "mine/nets.py:Net"), f'{P}#/teacher/module: "mine/nets.py:Net" is not of the form'),
    (("/teacher/module", "mine.nets:Nett"), f'{P}#/teacher/module: module "mine.nets" has no "Nett". Did you mean "Net"?'),
    (("/teacher/module", "mine.broken:load"), f'{P}#/teacher/module: module "mine.broken" is not valid Python (line 1)'),
    (("/teacher/module", "os:system"), f'{P}#/teacher/module: "os" is part of Python itself; a manifest names project code and installed packages. Write a function'),
    (("/teacher/module", "mine.none:Net"), f"{P}#/teacher/module: there is no module"),
    (("/teacher/module", "no_such_package_here.a:b"), f'{P}#/teacher/module: there is no module "no_such_package_here"'),
    (("/teacher", {"onnx": "models/wine.onnx", "through": "mine.data:laod"}), f'{P}#/teacher/through: module "mine.data" has no "laod". Did you mean "load"?'),
    (("/gates/teacher", {"metric": "mine.data:laod", "max": 1}), f'{P}#/gates/teacher/metric: module "mine.data" has no "laod". Did you mean "load"?'),
    (("/gates/task", [{"metric": "mine.none:load", "max": 1}]), f"{P}#/gates/task/0/metric: there is no module"),
    (("/teacher/task", {"kind": "mine.data:laod"}), f'{P}#/teacher/task/kind: module "mine.data" has no "laod"'),
    (("/student/distil", {"task": {"kind": "mine.data:laod"}}), f'{P}#/student/distil/task/kind: module "mine.data" has no "laod"'),
    (("/student/distil", {"soft": {"kind": "os:system"}}), f'{P}#/student/distil/soft/kind: "os" is part of Python itself'),
    (("/student/distil", {"soft": [{"kind": "kl"}, {"kind": "mine.data:laod"}]}), f'{P}#/student/distil/soft/1/kind: module "mine.data" has no "laod"'),
    (("/data/more", {"augment": "train", "by": "shfit"}), f'{P}#/data/more/by: there is no built-in augmentation "shfit". Did you mean "shift"? Your own is package.module:callable.'),
    (("/data/more", {"augment": "train", "by": "mine.data:laod"}), f'{P}#/data/more/by: module "mine.data" has no "laod"'),
    (("/data/more", {"augment": "trian", "by": "shift"}), f'{P}#/data/more/augment: there is no data set "trian". Did you mean "train"?'),
    (("/data/more", {"augment": "more", "by": "shift"}), f"{P}#/data/more: data sets in a circle: more -> more."),
    # losses
    (("/student/distil", {"soft": {"kind": "lk"}}), f'{P}#/student/distil/soft/kind: there is no loss "lk". Known: cosine, decoupled, dist, kl, l1, l2. Your own is package.module:callable.'),
    (("/student/distil", {"soft": [{"kind": "kl"}, {"kind": "l2", "temperature": 4}]}), f'{P}#/student/distil/soft/1/temperature: "temperature" is no option of l2. Its options: none.'),
    (("/student/distil", {"soft": {"kind": "kl", "args": {}}}), f'{P}#/student/distil/soft/args: "args" is no option of kl. Its options: temperature.'),
    (("/student/distil", {"soft": {"kind": "mine.data:load", "temperature": 1}}), f'{P}#/student/distil/soft/temperature: "temperature" is no option of a callable. Its options: args.'),
    (("/student/distil", {"task": {"kind": "crossentropy"}}), f'{P}#/student/distil/task/kind: there is no loss "crossentropy". Did you mean "cross_entropy"?'),
    (("/teacher/task", {"kind": "kl"}), f'{P}#/teacher/task/kind: there is no loss "kl". Known: cosine, cross_entropy, l1, l2.'),
    (("/student/distil", {"task": 0, "soft": [{"weight": 0}], "layers": {"weight": 0}}), f"{P}#/student/distil: every loss has a weight of 0"),
    (("/student/distil", {"preset": "distlbert"}), f'{P}#/student/distil/preset: "distlbert" is not one of distilbert'),
    # a teacher that is a file
    (("/teacher", {"onnx": "package:none"}), f'{P}#/teacher/onnx: "package:none" names no file in none'),
    (("/data/train/files", {"table": "models/none.csv"}), f'{P}#/data/train/files/table: there is no file "models/none.csv"'),
    # capacity
    (("/student/capacity", {"budget": "lowest"}), f'{P}#/student/capacity/budget: no platform says what memory its device has. Give one "device"'),
    (("/student/capacity", {"budget": "highest"}), f'{P}#/student/capacity/budget: "highest" is not one of lowest'),
    (("/student/capacity", {"budget": 0}), f"{P}#/student/capacity/budget: 0 is"),
    (("/student/args", {"width": "auto"}), f'{P}#/student/args/width: "auto" needs a capacity to solve for. Add "capacity"'),
    # runtimes and platform files
    (("/platforms/android/runtime", "onnxruntme"), f'{P}#/platforms/android/runtime: there is no runtime "onnxruntme". Did you mean "onnxruntime"?'),
    (("/platforms/ios", "platforms/iso.json"), f'{P}#/platforms/ios: there is no file "platforms/iso.json". Did you mean "ios.json"?'),
    (("/platforms/ios", "ios.json"), f'{P}#/platforms/ios: "ios.json" is not a platform file. Shared platforms are .json files in a folder of their own'),
    (("/platforms/ios", "../models/wine.onnx"), f'{P}#/platforms/ios: "../models/wine.onnx" is not a platform file'),
    (("/platforms/ios", "../models/x.json"), f'{P}#/platforms/ios: "../models/x.json" leaves its folder with ".."'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"), REFUSALS, ids=lambda v: str(v[0]) if isinstance(v, tuple) else ""
)
def test_refuses_in_its_own_words(root, change, words):
    text = refusal(root, changed(GOOD, change))
    assert words in text
    assert "things are wrong" not in text.replace("no_such", "") or change[0].startswith("/model")


SOURCE_REFUSALS = [
    (("/source", GONE), f'{P}: there is no network to build. Add "teacher" and "student", or "source".'),
    (("/gates", {"teacher": {"metric": "agreement", "min": 0.9}}), f"{P}#/gates/teacher: there is a gate against a teacher and no teacher. Remove this gate"),
    (("/source/onnx", "models/wime.onnx"), f'{P}#/source/onnx: there is no file "models/wime.onnx". Did you mean "wine.onnx"?'),
    (("/source/onnx", "/etc/passwd"), f'{P}#/source/onnx: "/etc/passwd" is an absolute path, which another machine does not have. Write it relative to'),
    (("/source/onnx", "C:/wine.onnx"), f'{P}#/source/onnx: "C:/wine.onnx" is an absolute path'),
    (("/source/onnx", "~/wine.onnx"), f'{P}#/source/onnx: "~/wine.onnx" is an absolute path'),
    (("/source/onnx", "models\\wine.onnx"), f'{P}#/source/onnx: "models\\\\wine.onnx" holds a backslash'),
    (("/source/onnx", "../wine.onnx"), f'{P}#/source/onnx: "../wine.onnx" leaves its folder with ".."'),
    (("/source/onnx", "models"), f'{P}#/source/onnx: "models" is not a regular file'),
    (("/source/onnx", ""), f'{P}#/source/onnx: "" is not a path'),
    (("/source", {"module": NET, "weights": "models/none"}), f'{P}#/source/weights: there is no file "models/none"'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"), SOURCE_REFUSALS, ids=lambda v: str(v[1]) if isinstance(v, tuple) else ""
)
def test_refuses_a_finished_model_in_its_own_words(root, change, words):
    text = refusal(root, changed(SOURCE, change))
    assert text.startswith(words)


CYCLES = [{"steps": 1}, {"steps": 2, "keep": 1}, {"steps": 3, "keep": 1}]
SEARCH = {"cycles": CYCLES, "candidates": {"a": {"args": {"width": 2}}}}
RANGE = {"low": 2, "high": 4}
SEARCH_REFUSALS = [
    ({"cycles": CYCLES[:2]}, ' holds 2 values, fewer than 3'),
    ({"cycles": [*CYCLES[:2], {"steps": 2, "keep": 1}]}, "/cycles/2/steps: ends at step 2, and the cycle before at step 2. Steps are counted"),
    ({"cycles": [*CYCLES[:2], {"steps": 3}]}, '/cycles/2: does not say how many go on. Add "keep"'),
    ({"cycles": [{"steps": 1, "keep": 1}, *CYCLES[1:]]}, "/cycles/0/keep: there is no cycle before the first"),
    ({"candidates": {}}, ': there is nothing to choose from. Add "candidates", or "samples" with "ranges".'),
    ({"samples": 1}, ": candidates are to be drawn, and there is no range. Add"),
    ({"cycles": [*CYCLES[:2], {"steps": 3, "keep": 1, "proposals": 1}]}, ": candidates are to be drawn, and there is no range"),
    ({"ranges": {"width": RANGE}}, '/ranges/width: "width" is no path into the student. It begins with one of module, args, distil, train.'),
    ({"ranges": {"train.rl": RANGE}}, '/ranges/train.rl: train has no "rl". Known: batch,'),
    ({"ranges": {"distil.sfot.temperature": RANGE}}, '/ranges/distil.sfot.temperature: distil has no "sfot". Did you mean "soft"?'),
    ({"ranges": {"args.width": {"low": 4, "high": 4}}}, "/ranges/args.width: low, 4, is not below high, 4"),
    ({"ranges": {"train.lr": {"low": 0, "high": 1, "log": True}}}, "/ranges/train.lr/low: 0 has no logarithm"),
    ({"candidates": {"draw-1": {}}}, "/candidates/draw-1: \"draw-1\" is a name of the search's own. Choose another."),
    ({"candidates": {"cycle1": {}}}, "/candidates/cycle1: \"cycle1\" is a name of the search's own"),
    ({"candidates": {"a": {"train": {"lr": "fast"}}}}, '/candidates/a/train/lr: "fast" is'),
    ({"candidates": {"a": {"distil": {"soft": {"temprature": 2}}}}}, '/candidates/a/distil/soft/temprature: unknown key "temprature". Did you mean "temperature"?'),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), SEARCH_REFUSALS, ids=lambda v: v if isinstance(v, str) else "")
def test_refuses_a_search_that_could_not_be_carried_out(root, change, words):
    text = refusal(root, changed(GOOD, ("/search", {**SEARCH, **change})))
    assert text.startswith(f"{P}#/search") and words in text


def test_takes_a_search_with_all_it_may_say(root):
    search = {**SEARCH, "ranges": {"args.width": RANGE}, "samples": 2, "seed": 3}
    (model,) = load(root, changed(GOOD, ("/search", search))).models
    assert (model.search.samples, model.search.seed, len(model.search.cycles)) == (2, 3, 3)


def test_a_width_is_solved_for_once_and_not_beside_a_search(root):
    capacity = ("/student/capacity", {"budget": 1000})
    two = changed(GOOD, capacity, ("/student/args", {"width": "auto", "depth": "auto"}))
    assert '/student/args/depth: width and depth are both "auto", and one can be solved for' in refusal(
        root, two
    )
    both = changed(GOOD, capacity, ("/student/args", {"width": "auto"}), ("/search", SEARCH))
    assert '"auto" stands beside a search, which says what is tried' in refusal(root, both)


def test_the_lowest_budget_may_stand_in_a_platform_file(root):
    ios = json.loads((root / "manifests/platforms/ios.json").read_text())
    (root / "manifests/platforms/ios.json").write_text(json.dumps({**ios, "device": {"memory": 1000}}))
    named = [("/platforms/ios", "platforms/ios.json"), ("/student/capacity", {"budget": "lowest"})]
    (model,) = load(root, changed(GOOD, *named)).models
    assert model.platforms["ios"].memory == 1000
    assert model.student.capacity == {"budget": "lowest", "fraction": 0.65}


def test_layers_of_a_file_are_named_and_not_counted(root):
    for distil, words in (
        (
            {"layers": {"kind": "l2"}},
            "/student/distil/layers: the teacher is an ONNX file, whose layers nobody knows",
        ),
        ({"initial": {}}, "/student/distil/initial: the student would start from the teacher's weights"),
        (
            {"preset": "distilbert"},
            "/student/distil/preset: the student would start from the teacher's weights",
        ),
    ):
        onnx = changed(GOOD, ("/teacher", {"onnx": "models/wine.onnx"}), ("/student/distil", distil))
        assert words in refusal(root, onnx)
    named = {"layers": {"map": [["layers.0", "relu"]]}}
    assert load(root, changed(GOOD, ("/teacher", {"onnx": "models/wine.onnx"}), ("/student/distil", named)))


def test_refuses_a_student_without_a_teacher(root):
    text = refusal(root, changed(GOOD, ("/teacher", GONE), ("/gates/teacher", GONE)))
    assert text.startswith(f'{P}#/student: there is a student without a teacher. Add "teacher"; for finished')


def test_names_the_circle_that_samples_run_in(root):
    ring = {"a": "b", "b": "c", "c": "b", "d": "a"}
    changes = [(f"/data/{name}", {"sample": of, "count": 1}) for name, of in ring.items()]
    text = refusal(root, changed(GOOD, *changes))
    assert text == f"{P}#/data/b: data sets in a circle: b -> c -> b. Load one of them with a loader."
    itself = changed(GOOD, ("/data/a", {"sample": "a", "count": 1}))
    assert "data sets in a circle: a -> a." in refusal(root, itself)


def test_a_chain_of_samples_is_no_circle(root):
    chain = [("/data/a", {"sample": "b", "count": 1}), ("/data/b", {"sample": "train", "count": 2})]
    assert load(root, changed(GOOD, *chain)).models[0].data["a"].source == "b"


@pytest.mark.parametrize("named", ["Other", "Wrapped", "Net", "_Hidden"])
def test_a_callable_may_be_bound_in_any_way(root, named):
    assert load(root, changed(GOOD, ("/teacher/module", f"mine.nets:{named}")))


def test_a_module_that_binds_names_at_run_time_is_believed(root):
    assert load(root, changed(GOOD, ("/teacher/module", "mine.star:Anything")))


def test_an_installed_package_may_be_named(root):
    assert load(root, changed(GOOD, ("/data/train/loader", "sklearn.datasets:load_iris")))
    assert 'has no module "sklearn.none"' in refusal(
        root, changed(GOOD, ("/data/train/loader", "sklearn.none:x"))
    )


def test_an_unknown_runtime_says_nothing_about_its_options(root):
    platform = {"runtime": "nonesuch", "optimisation": "all", "whatever": 1}
    text = refusal(root, changed(GOOD, ("/platforms/android", platform)))
    assert text.startswith(f'{P}#/platforms/android/runtime: there is no runtime "nonesuch"')


def test_a_platform_file_is_refused_with_its_own_place_and_once(root):
    file = root / "manifests/platforms/ios.json"
    for name in ("a", "b"):
        write(
            root, changed({**SOURCE, "model": name}, ("/platforms/ios", "platforms/ios.json")), f"{name}.json"
        )
    file.write_text('{"runtime": "onnxruntime", "threds": 2}')
    place = "manifests/platforms/ios.json"
    assert refusal(root) == f'{place}#/threds: unknown key "threds". Did you mean "threads"?'
    file.write_text('{"runtime": "onnx-runtime"}')
    assert refusal(root).startswith(f'{place}#/runtime: there is no runtime "onnx-runtime". Did you')
    file.write_text('{"runtime": ')
    assert refusal(root).startswith(f"{place}:1:13: is not JSON")
    file.write_text('{"runtime": "onnxruntime"}')
    assert len(load(root).models) == 2


def test_reports_all_that_is_wrong_together(root):
    text = refusal(
        root, changed(GOOD, ("/data/evaluation", GONE), ("/teacher/train/steps", 0), ("/export", 1))
    )
    assert text.splitlines()[0] == f"{P}: 3 things are wrong:"
    assert [line.split(":")[0].strip() for line in text.splitlines()[1:]] == [
        f"{P}#/teacher/train/steps",
        f"{P}#/export",
        f"{P}#/data",
    ]


def test_reports_every_manifest_and_at_most_ten_findings(root):
    for name in ("a", "b"):
        write(
            root, changed({**SOURCE, "model": name}, *((f"/wrong{i}", i) for i in range(8))), f"{name}.json"
        )
    lines = refusal(root).splitlines()
    assert lines[0] == "manifests: 16 things are wrong:"
    assert len(lines) == 12
    assert lines[-1] == "  and 6 more"


def test_refuses_two_models_of_one_name(root):
    write(root, SOURCE, "a.json")
    text = refusal(root, SOURCE, "b.json")
    assert (
        text
        == 'manifests/b.json#/model: "wine" is also the model of manifests/a.json. Rename one of the two.'
    )


def test_refuses_a_folder_without_manifests(root, tmp_path):
    assert refusal(root).startswith(
        "manifests/: there is no manifest. Write one, such as manifests/digits.json"
    )
    assert refusal_of_empty(tmp_path).startswith("manifests/: there is no manifest.")


def refusal_of_empty(folder):
    with pytest.raises(ManifestError) as caught:
        manifest.load(folder, set())
    return str(caught.value)


@pytest.mark.parametrize("name", ["my model.json", "a\nb.json", "é.json", "a;b.json", "-a.json"])
def test_refuses_a_file_name_that_is_not_plain(root, name):
    assert refusal(root, SOURCE, name).startswith(
        f"manifests/: {json.dumps(name, ensure_ascii=False)} is not a valid"
    )


@pytest.mark.parametrize("value", ["[]", "null", "3", '"x"', '{"data": [], "platforms": [], "teacher": []}'])
def test_refuses_any_other_json(root, value):
    assert refusal(root, value).startswith(P)


def test_what_is_no_object_is_refused_for_that_alone(root):
    assert refusal(root, "[]") == f"{P}: [] is a list, not an object"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(0, 1) | st.text(max_size=6)
    | st.sampled_from(["onnxruntime", "train", "platforms/ios.json", "os:system", "../x", "auto"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["loader", "sample", "runtime", "module", "args", "onnx", "min", "train"])
                      | st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
PLACES = ["model", "data", "teacher", "student", "source", "export", "platforms", "gates", "description", "x",
          "data/train", "data/new", "teacher/train", "teacher/module", "student/distil", "student/distil/soft",
          "platforms/android", "platforms/new", "platforms/android/runtime", "gates/runtime", "gates/task"]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), JSON), min_size=1, max_size=3))
def test_whatever_it_says_a_manifest_is_declared_or_refused(root, changes):
    made = copy.deepcopy(GOOD)
    for place, value in changes:
        *steps, last = place.split("/")
        node = made
        for step in steps:
            node = node.get(step) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node[last] = value
    try:
        assert load(root, made).models
    except ManifestError as error:
        assert error.place.startswith("manifests")
        assert all(line.isprintable() for line in str(error).splitlines())


# What was accepted is not checked again, and nothing else is spared.


class Watched(set):
    asked = ()

    def __contains__(self, digest):
        self.asked = (*self.asked, digest)
        return super().__contains__(digest)


def test_a_valid_manifest_is_checked_once(root, monkeypatch):
    accepted = Watched()
    first = load(root, changed(GOOD, ("/platforms/ios", "platforms/ios.json")), accepted=accepted)
    (digest,) = accepted
    assert len(digest) == 32
    monkeypatch.setitem(sys.modules, "modelbuild.validate", None)  # importing it would fail now
    assert load(root, accepted=accepted) == first
    assert len(accepted) == 1


@pytest.mark.parametrize("file", ["manifests/x.json", "manifests/platforms/ios.json", "schema", "rules"])
def test_a_changed_byte_is_checked_again(root, monkeypatch, file):
    accepted = Watched()
    load(root, changed(GOOD, ("/platforms/ios", "platforms/ios.json")), accepted=accepted)
    if file == "schema":
        old = manifest.schemas.source()
        monkeypatch.setattr(manifest.schemas, "source", lambda: old + b" ")
    elif file == "rules":
        monkeypatch.setattr(manifest, "_RULES", manifest._RULES[:-1])
    else:
        (root / file).write_text((root / file).read_text() + " ")
    load(root, accepted=accepted)
    assert len(accepted) == 2


def test_a_refused_manifest_is_not_accepted(root):
    accepted = Watched()
    for value in (changed(GOOD, ("/model", "X")), changed(SOURCE, ("/source/onnx", "models/none"))):
        with pytest.raises(ManifestError):
            load(root, value, accepted=accepted)
    assert accepted == set()


def test_an_accepted_manifest_is_added_no_second_time(root):
    class Once(set):
        def add(self, digest):
            assert digest not in self
            super().add(digest)

    accepted = Once()
    load(root, GOOD, accepted=accepted)
    load(root, accepted=accepted)
    assert len(accepted) == 1


def test_files_are_looked_at_on_every_load(root):
    accepted = set()
    load(root, changed(SOURCE, ("/platforms/ios", "platforms/ios.json")), accepted=accepted)
    os.remove(root / "models/wine.onnx")
    with pytest.raises(ManifestError, match=r"there is no file .models/wine.onnx."):
        load(root, accepted=accepted)
    (root / "models/wine.onnx").write_text("")
    os.remove(root / "manifests/platforms/ios.json")
    with pytest.raises(ManifestError, match=r"there is no file .platforms/ios.json."):
        load(root, accepted=accepted)


def test_a_load_of_what_is_accepted_imports_nothing_heavy(root):
    write(root, GOOD)
    script = (
        "import sys; from pathlib import Path; from modelbuild import manifest\n"
        "accepted = set(sys.argv[2:])\n"
        "manifest.load(Path(sys.argv[1]), accepted)\n"
        "heavy = {'jsonschema', 'torch', 'numpy', 'onnx', 'onnxruntime', 'rich', 'importlib.metadata'}\n"
        "print(*(sorted(accepted) if len(sys.argv) < 3 else sorted(heavy & set(sys.modules))))"
    )
    run = [sys.executable, "-c", script, str(root)]
    digest = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert len(digest) == 1
    again = subprocess.run([*run, *digest], cwd=ROOT, capture_output=True, text=True, check=True)
    assert again.stdout.split() == []
