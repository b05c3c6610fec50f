"""What happens to files between two builds, and what the second build then does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from project_dir import ALL, DATA_TARGET, MADE, MANIFEST, TWICE, ProjectDir, flipped, overwrite

import modelbuild


def test_a_first_build_builds_all_and_a_second_builds_nothing(fresh: ProjectDir) -> None:
    first = fresh.doit()
    assert first.code == 0, first.text
    assert first.of("built") == fresh.executed() == MADE
    assert first.of("restored") == TWICE
    assert {name for name, state in fresh.report_states().items() if state == "built"} == MADE
    assert fresh.report()["ok"] is True

    second = fresh.doit()
    assert second.code == 0
    assert second.of("up to date") == ALL
    assert fresh.executed() == set()
    assert set(fresh.report_states().values()) == {"up-to-date"}


def test_a_project_that_moved_is_up_to_date(project: ProjectDir) -> None:
    assert project.doit().of("up to date") == ALL
    assert project.executed() == set()


@pytest.mark.parametrize(
    "name", ["manifests/tiny.json", "shop/data.py", "shop/sizes.py", "models/tiny.onnx", "dodo.py"]
)
def test_touch_runs_nothing(project: ProjectDir, name: str) -> None:
    project.doit()
    os.utime(project.path(name))
    assert project.doit().of("up to date") == ALL
    assert project.executed() == set()


def test_layout_of_the_manifest_runs_nothing(project: ProjectDir) -> None:
    project.manifest(lambda m: m.update(description="another description"))
    assert project.doit().of("up to date") == ALL
    assert project.executed() == set()


def test_a_change_that_gives_the_same_bytes_stops_there(project: ProjectDir) -> None:
    project.replace("shop/data.py", "import numpy", "# a comment\nimport numpy")
    result = project.doit()
    assert project.executed() == {DATA_TARGET}
    assert result.of("up to date") == ALL - {DATA_TARGET}
    assert result.reasons[DATA_TARGET] == "code changed: shop.data"


# -- copies in .cache/out


def _overwrite(path: Path) -> None:
    overwrite(path, flipped(path.read_bytes()))


def _truncate(path: Path) -> None:
    overwrite(path, b"")


def _delete(path: Path) -> None:
    path.unlink()


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


def _link_to_the_same(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _extra(path: Path) -> None:
    path.with_name("extra.txt").write_text("not of this target")


def _no_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def _file_for_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("a file")


DAMAGE = [
    _overwrite,
    _truncate,
    _delete,
    _link,
    _link_to_the_same,
    _folder,
    _extra,
    _no_folder,
    _file_for_folder,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_copy_is_restored(project: ProjectDir, damage: object) -> None:
    project.doit()
    before = project.contents()
    damage(project.out("tiny:onnx", "model.onnx"))  # type: ignore[operator]
    result = project.doit()
    assert result.code == 0, result.text
    assert project.executed() == set()
    assert result.of("restored") == {"tiny:onnx"}
    assert {k: v for k, v in project.contents().items() if k != "tiny/elsewhere"} == before
    assert project.doit().of("up to date") == ALL


def test_a_deleted_out_folder_is_restored(project: ProjectDir) -> None:
    before = project.contents()
    shutil.rmtree(project.path(".cache/out"))
    assert project.doit().of("restored") == ALL
    assert project.executed() == set()
    assert project.contents() == before
    assert project.report()["ok"] is True


# -- contents of the store


def test_an_object_lost_from_the_store_does_not_stop_what_needs_it(project: ProjectDir) -> None:
    project.object_of("tiny:onnx", "model.onnx").unlink()
    project.manifest(lambda m: m["platforms"].update(watch={"runtime": "onnxruntime", "threads": 2}))
    result = project.doit()
    assert result.code == 0, result.text
    made = {"tiny:watch", "tiny:watch.run", "tiny:watch.steps", "tiny:verdict.runtime", "tiny:repro"}
    assert result.of("built") == made
    assert result.of("restored") == {"tiny:watch.golden"}
    assert (
        project.out("tiny:watch", "model.onnx").read_bytes()
        == project.out("tiny:onnx", "model.onnx").read_bytes()
    )


@pytest.mark.parametrize("target", [DATA_TARGET, "tiny:onnx", "tiny:phone.run", "tiny:verdict.runtime"])
def test_copy_and_objects_both_lost_builds_that_target_again(project: ProjectDir, target: str) -> None:
    before = project.contents()
    for entry in project.record_of(target).tree.entries:
        project.object_of(target, entry.path).unlink()
    shutil.rmtree(project.out(target))
    result = project.doit()
    assert result.code == 0, result.text
    assert project.executed() == {target}
    assert project.contents() == before


def test_a_lost_store_builds_all_that_is_needed(project: ProjectDir) -> None:
    before = project.contents()
    shutil.rmtree(project.path(".cache/objects"))
    shutil.rmtree(project.path(".cache/out"))
    assert project.doit().code == 0
    # Equal contents lie in the store once: what is brought back for one platform serves the other.
    assert MADE - {"tiny:browser", "tiny:browser.run"} <= project.executed()
    assert project.contents() == before


@pytest.mark.parametrize("kept", ["out", "objects", "records"])
def test_whatever_is_lost_but_one_folder_the_result_is_right(project: ProjectDir, kept: str) -> None:
    before = project.contents()
    for path in project.path(".cache").iterdir():
        if path.name != kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    result = project.doit()
    assert result.code == 0, result.text
    assert project.contents() == before
    assert project.report()["ok"] is True
    assert project.doit().of("up to date") == ALL


# -- inputs that change


def test_a_parameter_of_a_run_runs_that_platform_again_and_leaves_its_artefact(project: ProjectDir) -> None:
    project.manifest(lambda m: m["platforms"]["phone"].update(optimisation="basic"))
    result = project.doit()
    assert result.code == 0, result.text
    follow = {"tiny:phone.steps", "tiny:verdict.runtime", "tiny:repro"}
    assert {"tiny:phone.run", "tiny:phone.steps"} <= project.executed() <= {"tiny:phone.run", *follow}
    assert "optimisation" in result.reasons["tiny:phone.run"]
    assert '"basic"' in result.reasons["tiny:phone.run"]


def test_a_parameter_of_the_artefact_rebuilds_it(project: ProjectDir) -> None:
    project.manifest(lambda m: m["platforms"]["phone"].update(batch=8))
    result = project.doit()
    assert result.code == 0, result.text
    assert {"tiny:phone", "tiny:phone.run"} <= project.executed()
    assert "batch" in result.reasons["tiny:phone"]


def test_a_gate_rebuilds_its_verdict_alone(project: ProjectDir) -> None:
    project.manifest(lambda m: m["gates"]["task"].update(min=0.8))
    result = project.doit()
    assert project.executed() == {"tiny:verdict.task"}
    assert "0.9 -> 0.8" in result.reasons["tiny:verdict.task"]


def test_an_argument_of_the_loader_rebuilds_the_data_and_what_it_changes(project: ProjectDir) -> None:
    project.manifest(lambda m: m["data"]["evaluation"].update(args={"scale": 2.0}))
    result = project.doit()
    assert result.code == 0, result.text
    ran = project.executed()
    assert {DATA_TARGET, "tiny:reference", "tiny:phone.run", "tiny:browser.run"} <= ran
    assert not ran & {"tiny:onnx", "tiny:phone", "tiny:browser"}
    assert "scale" in result.reasons[DATA_TARGET]
    assert result.reasons["tiny:phone.run"] == f"input changed: {DATA_TARGET}"


def test_a_module_that_the_loader_imports_is_part_of_it(project: ProjectDir) -> None:
    project.write("shop/sizes.py", "SAMPLES = 25\n")
    result = project.doit()
    assert {DATA_TARGET, "tiny:reference"} <= project.executed()
    assert result.reasons[DATA_TARGET] == "code changed: shop.sizes"
    assert project.report()["ok"] is True


def test_a_module_nothing_imports_rebuilds_nothing(project: ProjectDir) -> None:
    project.write("shop/other.py", "X = 1\n")
    project.replace("shop/slow.py", "import os", "import os  # changed")
    assert project.doit().of("up to date") == ALL


def test_another_onnx_file_rebuilds_what_is_made_of_it(project: ProjectDir, onnx_model: bytes) -> None:
    import onnx

    model = onnx.load_from_string(onnx_model)
    weights = bytearray(model.graph.initializer[0].raw_data)
    model.graph.initializer[0].raw_data = bytes(weights[:-4]) + b"\x00\x00\xc0\x40"
    project.path("models/tiny.onnx").write_bytes(model.SerializeToString())
    result = project.doit()
    assert DATA_TARGET not in project.executed()
    assert {"tiny:onnx", "tiny:reference", "tiny:phone", "tiny:phone.run"} <= project.executed()
    assert result.reasons["tiny:onnx"] == "file changed: models/tiny.onnx"


def test_an_edit_that_keeps_time_and_size_is_noticed(project: ProjectDir) -> None:
    project.doit()
    path = project.path("shop/sizes.py")
    before = path.stat()
    path.write_text("SAMPLES = 25\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert DATA_TARGET in project.doit().of("built")


def test_going_back_to_an_earlier_state_runs_nothing(project: ProjectDir) -> None:
    before = project.contents()
    project.write("shop/sizes.py", "SAMPLES = 25\n")
    project.doit()
    assert project.executed() >= {DATA_TARGET, "tiny:reference"}
    changed = project.contents()
    assert changed != before

    project.write("shop/sizes.py", "SAMPLES = 24\n")
    back = project.doit()
    assert project.executed() == set()
    assert DATA_TARGET in back.of("restored")
    assert project.contents() == before

    project.write("shop/sizes.py", "SAMPLES = 25\n")
    project.doit()
    assert project.executed() == set()
    assert project.contents() == changed


def test_the_source_of_a_recipe_is_part_of_its_targets(project: ProjectDir, tmp_path: Path) -> None:
    package = tmp_path / "lib" / "modelbuild"
    shutil.copytree(Path(modelbuild.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    lib = {"PYTHONPATH": os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])}
    assert project.doit(env=lib).of("up to date") == ALL
    with (package / "recipes" / "platform.py").open("a") as source:
        source.write("# a comment\n")
    result = project.doit(env=lib)
    assert project.executed() == {"tiny:phone", "tiny:phone.run", "tiny:browser", "tiny:browser.run"}
    assert result.reasons["tiny:phone"] == "code changed: modelbuild.recipes.platform"


def test_a_model_that_is_taken_away_leaves_the_others_alone(project: ProjectDir) -> None:
    other = project.path("manifests/tiny.json").read_text().replace('"tiny"', '"other"')
    project.write("manifests/other.json", other)
    result = project.doit()
    assert result.code == 0, result.text
    # The same work under another name is done once.
    assert project.executed() <= {"other:verdict.task", "other:verdict.runtime", "other:repro"}
    project.path("manifests/tiny.json").unlink()
    result = project.doit()
    assert result.code == 0
    assert result.of("up to date") == {name.replace("tiny:", "other:") for name in ALL}
    assert project.executed() == set()
    assert "tiny" not in result.text
    project.write("manifests/tiny.json", other.replace('"other"', '"tiny"'))
    assert project.doit().of("up to date") >= ALL
    assert MANIFEST["model"] == "tiny"
