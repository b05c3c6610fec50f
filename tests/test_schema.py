import copy
import dataclasses
import inspect
import json
import shutil

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from modelbuild import kinds, schema_errors, schemas
from modelbuild.declare import Document
from modelbuild.equivalence import demand
from modelbuild.errors import ManifestError
from modelbuild.limits import LIMITS
from modelbuild.runtimes import base
from modelbuild.runtimes.coreml import options as coreml
from modelbuild.runtimes.onnxruntime import options as onnxruntime
from modelbuild.runtimes.onnxruntime_web import options as web
from modelbuild.strictjson import walk
from modelbuild.training import losses
from modelbuild.training.settings import EarlyStopping, Settings

FILES = sorted(path.relative_to(schemas.FOLDER).as_posix() for path in schemas.FOLDER.rglob("*.json"))
ANNOTATIONS = {"$schema", "title", "description", "examples", "default"}
CONDITIONS = {"required", "properties", "type"}
STRUCTURE = {"$ref", "$defs", "allOf", "if", "then", "else", "properties", "propertyNames", "items"}


def raw(name):
    return json.loads((schemas.FOLDER / name).read_text())


def subschemas(node, where=()):
    """Every schema in a schema file, with the path to it; what stands under `properties` are names."""
    yield where, node
    for key in ("if", "then", "else", "propertyNames", "items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from subschemas(node[key], (*where, key))
    for key in ("properties", "$defs"):
        for name, sub in node.get(key, {}).items():
            yield from subschemas(sub, (*where, key, name))
    for index, sub in enumerate(node.get("allOf", ())):
        yield from subschemas(sub, (*where, "allOf", index))


def registry():
    return Registry().with_resources((name, Resource.from_contents(raw(name))) for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_is_a_valid_schema_whose_references_lead_somewhere(name):
    Draft202012Validator.check_schema(raw(name))
    assert raw(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert not [
        steps for steps, _ in walk(schemas.resolved(name)) if steps and steps[-1] in ("$ref", "$defs")
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_property_is_described(name):
    for where, _ in subschemas(raw(name)):
        if len(where) > 1 and where[-2] == "properties" and "if" not in where:
            full = schemas.resolved(name)
            described = _follow(full, where) if "$defs" not in where else _follow_raw(name, where)
            assert described.get("description", "").endswith("."), where


def _follow(node, where):
    for step in where:
        node = node[step]
    return node


def _follow_raw(name, where):
    node = _follow(raw(name), where)
    return schemas._inlined(node, schemas.FOLDER / name)


@pytest.mark.parametrize("name", [schemas.MODEL, schemas.PLATFORM])
def test_every_default_is_valid_by_its_own_schema(name):
    found = 0
    for where, sub in subschemas(schemas.resolved(name)):
        if "default" in sub:
            document = Document("x", sub["default"])
            assert list(schema_errors.problems(sub, document)) == [], where
            found += 1
    assert found >= 3


@pytest.mark.parametrize("name", FILES)
def test_keeps_to_the_keywords_that_the_loader_understands(name):
    for where, sub in subschemas(raw(name)):
        inside_if = "if" in where
        known = CONDITIONS | {"const"} if inside_if else ANNOTATIONS | STRUCTURE | set(schema_errors._WORDS)
        assert set(sub) <= known, where
        if "$ref" in sub:
            # Only annotations and narrower bounds may stand beside a reference: they replace, not add.
            assert set(sub) <= {"$ref", "maxLength", *ANNOTATIONS}, where
        if where and where[-1] == "if":
            kinds = sub.get("type", "object")
            assert kinds in schemas._JSON_TYPES


def test_every_object_refuses_unknown_keys():
    # A schema's unknown keys may be refused where it is referred to, so the resolved form is looked at.
    for where, sub in subschemas(schemas.resolved(schemas.MODEL)):
        closed = "additionalProperties" in sub or "unevaluatedProperties" in sub
        if "properties" in sub and "if" not in where and sub.get("properties"):
            soft, output = ("distil", "properties", "soft"), ("properties", "outputs", "additionalProperties")
            extends = "allOf" in where or where[-4:-1] in (soft, output)
            assert closed or extends, where


def test_every_runtime_schema_is_named_by_the_platform_schema_and_belongs_to_a_runtime():
    listed = {
        branch["then"]["$ref"]: branch["if"]["properties"]["runtime"]["const"]
        for branch in raw(schemas.PLATFORM)["allOf"]
    }
    assert listed == {
        f"runtimes/{name}.schema.json": name for name in base.builtin() if name in listed.values()
    }
    assert sorted(listed) == [name for name in FILES if name.startswith("runtimes/")]
    assert set(base.builtin()) == set(listed.values())


@pytest.mark.parametrize("optimisation", ["disabled", "basic", "extended", "all"])
def test_the_runtime_takes_every_option_that_its_schema_lets_through(optimisation):
    platform = {"runtime": "onnxruntime", "optimisation": optimisation, "batch": 3}
    full = schemas.filled(schemas.resolved(schemas.PLATFORM), platform)
    generic = schemas.resolved(schemas.PLATFORM)["properties"]
    parsed = onnxruntime.parse({key: value for key, value in full.items() if key not in generic})
    assert (parsed.optimisation, parsed.threads, parsed.batch) == ((optimisation,), (1,), 3)


@pytest.mark.parametrize(("name", "options"), [("onnxruntime", onnxruntime), ("onnxruntime-web", web)])
def test_the_defaults_of_the_schema_are_those_of_the_runtime(name, options):
    schema = raw(f"runtimes/{name}.schema.json")["properties"]
    assert set(schema) == set(options.Options._fields)
    full = schemas.filled(schemas.resolved(schemas.PLATFORM), {"runtime": name})
    found = options.parse({key: value for key, value in full.items() if key in schema})
    assert {k: _plain(v) for k, v in found._asdict().items()} == {
        k: _plain(v) for k, v in options.Options()._asdict().items()
    }


def _plain(value):
    return list(value) if isinstance(value, list | tuple) else value


def test_the_runtimes_of_onnx_take_every_value_that_their_schemas_list():
    native = raw("runtimes/onnxruntime.schema.json")["properties"]
    for name, allowed in (("format", onnxruntime.FORMATS), ("shapes", onnxruntime.SHAPES)):
        assert tuple(native[name]["enum"]) == allowed
    assert tuple(native["optimisation"]["then"]["items"]["enum"]) == onnxruntime.LEVELS
    browser = raw("runtimes/onnxruntime-web.schema.json")["properties"]
    for name, allowed in (("backends", web.BACKENDS), ("hosts", web.HOSTS)):
        assert tuple(browser[name]["items"]["enum"]) == allowed
    assert tuple(browser["optimisation"]["enum"]) == web.LEVELS


def test_core_ml_takes_every_option_that_its_schema_lets_through():
    schema, generic = raw("runtimes/coreml.schema.json"), raw(schemas.PLATFORM)["properties"]
    assert set(schema["properties"]) == set(coreml.Options._fields)
    platform = {"runtime": "coreml", "deployment_target": "iOS18",
                "compression": [{"kind": kind} for kind in ("prune", "palette", "linear")]}  # fmt: skip
    full = schemas.filled(schemas.resolved(schemas.PLATFORM), platform)
    parsed = coreml.parse({key: value for key, value in full.items() if key not in generic})
    assert tuple(parsed.accumulation) == coreml.ACCUMULATIONS
    plain = parsed._replace(compression=(), accumulation=coreml.ACCUMULATIONS)
    assert plain == coreml.Options(deployment_target="iOS18")
    assert [sorted(step) for step in parsed.compression] == [
        ["kind", "min_elements", "sparsity"],
        ["bits", "kind", "min_elements", "mode"],
        ["kind", "min_elements", "symmetric"],
    ]
    for name, allowed in (
        ("deployment_target", coreml.TARGETS),
        ("precision", coreml.PRECISIONS),
        ("compute_units", coreml.UNITS),
    ):
        assert tuple(schema["properties"][name]["enum"]) == allowed
    assert tuple(schema["properties"]["accumulation"]["items"]["enum"]) == coreml.ACCUMULATIONS
    assert set(schema["properties"]["metadata"]["properties"]) == set(coreml.METADATA)
    assert schema["properties"]["names"]["additionalProperties"]["pattern"] == f"^{coreml.PLAIN.pattern}$"


def test_training_takes_exactly_what_the_schema_lets_through():
    train = schemas._inlined(raw(schemas.MODEL)["$defs"]["train"], schemas.FOLDER / schemas.MODEL)
    assert set(train["properties"]) == {field.name for field in dataclasses.fields(Settings)}
    assert Settings.of(schemas.filled(train, {}), "x") == Settings()
    early = train["properties"]["early_stopping"]
    assert Settings.of({"early_stopping": schemas.filled(early, {})}, "x").early_stopping == EarlyStopping()


@pytest.mark.parametrize(("told", "computed"), [(kinds.TASK, losses.TASK), (kinds.SOFT, losses.SOFT)])
def test_a_manifest_can_name_exactly_the_losses_there_are_with_their_options(told, computed):
    def options(loss):
        return sorted(
            n for n, each in inspect.signature(loss).parameters.items() if each.kind is each.KEYWORD_ONLY
        )

    assert {name: sorted(known) for name, known in told.items()} == {
        n: options(f) for n, f in computed.items()
    }
    soft = raw(schemas.MODEL)["$defs"]["soft_loss"]
    known = {name for options in kinds.SOFT.values() for name in options}
    assert known == set(soft["properties"]) - {"kind", "weight", "outputs", "args"}


def test_a_tolerance_is_demanded_as_the_schema_lets_it_through():
    schema = schemas.resolved(schemas.MODEL)["properties"]["gates"]["properties"]["runtime"]
    metrics = schema["properties"]["tolerance"]["then"]["properties"]
    assert set(metrics) == {*demand.CEILINGS, *demand.FLOORS}
    assert demand.runtime(schemas.filled(schema, {})) == demand.RuntimeDemand()
    for metric in metrics:
        for limit in (-1, 0, 0.5, 1, 1.5, 40):
            gate = {"tolerance": {metric: limit}}
            try:
                demand.runtime(gate)
            except ManifestError:
                assert list(schema_errors.problems(schema, Document("x", gate))), gate
            else:
                assert not list(schema_errors.problems(schema, Document("x", gate))), gate


ONE = {"kind": "sequence", "lengths": "n", "padding": 0}


@pytest.mark.parametrize(
    "more",
    [
        *({"outputs": {"y": {k: v for k, v in ONE.items() if k in kept}}}
          for kept in ([], ["kind"], ["lengths"], ["padding"], ["kind", "padding"], ["kind", "lengths"], list(ONE))),
        *({"outputs": {"y": {**ONE, **wrong}}}
          for wrong in ({"kind": "words"}, {"kind": "regression"}, {"padding": "0"}, {"lengths": 1}, {"size": 1})),
        *({"flip_rate": rate} for rate in (-1, 0, 0.01, 1, 2, True, "0.1")),
        {"outputs": []},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_outputs_and_flip_rates_are_demanded_as_the_schema_lets_them_through(more):
    schema = schemas.resolved(schemas.MODEL)["properties"]["gates"]["properties"]["runtime"]
    refused = list(schema_errors.problems(schema, Document("x", more)))
    try:
        demand.runtime(more)
    except ManifestError:
        assert refused
    else:
        assert not refused


def test_the_limit_on_names_stands_in_the_schema_too():
    assert schemas.resolved(schemas.MODEL)["properties"]["model"]["maxLength"] == LIMITS.model_name_chars


def test_defaults_come_from_the_schema_alone(tmp_path):
    """With another default in the schema file, another value is filled in: no code holds a copy."""
    folder = tmp_path / "schema"
    shutil.copytree(schemas.FOLDER, folder)
    for name in FILES:
        document = raw(name)
        for where, sub in subschemas(document):
            if type(sub.get("default")) in (int, float):
                _follow(document, where)["default"] = sub["default"] + 1
        (folder / name).write_text(json.dumps(document))
    manifest = {"model": "m", "teacher": {"module": "m:n"}, "student": {"module": "m:n"},
                "platforms": {"p": {"runtime": "onnxruntime"}},
                "data": {"a": {"sample": "b", "count": 1}}}  # fmt: skip
    before = schemas.filled(schemas.resolved(schemas.MODEL), manifest)
    after = schemas.filled(schemas.resolved(schemas.MODEL, folder), manifest)
    changed = {steps for steps, value in walk(before) if type(value) in (int, float)}
    assert changed - {
        ("data", "a", "count"),
        ("export", "dynamic", "batch", 0),
        ("export", "dynamic", "batch", 1),
    }
    for steps in changed:
        default = steps[-1] not in ("count", 0, 1)
        assert _follow(after, steps) == _follow(before, steps) + default, steps


def test_filling_in_leaves_the_given_value_as_it_is():
    given = {"model": "m", "gates": {"task": {"metric": "accuracy"}}, "export": {"dynamic": {}}}
    kept = copy.deepcopy(given)
    full = schemas.filled(schemas.resolved(schemas.MODEL), given)
    assert given == kept
    assert full["gates"]["runtime"] == {"tolerance": "auto", "decision_flips": 0}
    assert full["export"] == {"opset": 18, "dynamic": {}}
    fresh = schemas.filled(schemas.resolved(schemas.MODEL), {"model": "m"})
    fresh["export"]["dynamic"]["batch"].append(7)
    fresh["export"]["opset"] = 19
    fresh["gates"]["runtime"]["decision_flips"] = 7
    again = schemas.filled(schemas.resolved(schemas.MODEL), {"model": "m"})
    assert again["export"]["dynamic"] == {"batch": [1, 64]}
    assert (again["export"]["opset"], again["gates"]["runtime"]["decision_flips"]) == (18, 0)


@pytest.mark.parametrize("path", sorted(schemas.FOLDER.parents[1].glob("manifests/**/*.json"), key=str))
def test_an_editor_finds_the_schema_and_agrees(path):
    """The shipped manifests are valid by the schema files as they stand, references unresolved."""
    if path.name.endswith(".lock.json"):
        return
    document = json.loads(path.read_text())
    schema_file = (path.parent / document["$schema"]).resolve()
    assert schema_file.parent == schemas.FOLDER.resolve()
    resolver = registry()
    validator = Draft202012Validator({"$ref": schema_file.name}, registry=resolver)
    assert list(validator.iter_errors(document)) == []
    assert list(validator.iter_errors({**document, "nonsense": 1}))


STEPS = {
    "properties": {
        "steps": {
            "default": [{"kind": "a"}],
            "items": {"properties": {"bits": {"default": 4}, "names": {"default": []}}},
        }
    }
}


def test_defaults_are_filled_into_the_members_of_a_list():
    before = copy.deepcopy(STEPS)
    given = {"steps": [{"bits": 2}, {}, 7]}
    assert schemas.filled(STEPS, given) == {"steps": [{"bits": 2, "names": []}, {"bits": 4, "names": []}, 7]}
    assert given == {"steps": [{"bits": 2}, {}, 7]}
    made = schemas.filled(STEPS, {})
    assert made == {"steps": [{"kind": "a", "bits": 4, "names": []}]}
    made["steps"][0]["names"].append("x")
    made["steps"].append("y")
    assert before == STEPS
    assert schemas.filled(STEPS, {}) == {"steps": [{"kind": "a", "bits": 4, "names": []}]}


def test_a_list_whose_members_the_schema_says_nothing_of_stays_as_it_is():
    assert schemas.filled({}, [{"a": 1}, [2]]) == [{"a": 1}, [2]]
