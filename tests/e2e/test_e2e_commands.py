"""Every command of the project, on a project that was built and on one that was not."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest
from project_dir import ALL, DATA_TARGET, MADE, ProjectDir, flipped, overwrite

UPSTREAM = {DATA_TARGET, "tiny:onnx", "tiny:reference"}
HEAVY = ("torch", "numpy", "onnx", "onnxruntime", "coremltools", "jsonschema", "fsspec", "rich", "filelock")


def _age(project: ProjectDir, days: float) -> None:
    """Make every record and object look unused for so long."""
    then = time.time() - days * 86400
    for path in project.records():
        os.utime(path, (then, then))


# -- what doit brings


def test_list_shows_every_target_with_its_words(fresh: ProjectDir) -> None:
    result = fresh.doit("list", "--all")
    assert result.code == 0, result.text
    rows = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert ALL | {"tiny", "tiny:report", "tiny:gate"} == set(rows)
    assert "phone" in rows["tiny:phone"]
    assert not fresh.path(".cache/objects").exists()


def test_a_model_by_name_builds_that_model(fresh: ProjectDir) -> None:
    fresh.write(
        "manifests/other.json", fresh.path("manifests/tiny.json").read_text().replace('"tiny"', '"other"')
    )
    result = fresh.doit("other:onnx")
    assert result.of("built") == {"other:onnx"}
    result = fresh.doit("tiny")
    assert result.code == 0, result.text
    assert set(result.states) == ALL
    assert not fresh.out("other:reference").exists()


def test_a_target_by_name_builds_what_it_is_made_from_alone(fresh: ProjectDir) -> None:
    result = fresh.doit("tiny:reference")
    assert result.code == 0
    assert fresh.executed() == UPSTREAM
    assert set(result.states) == UPSTREAM
    assert not fresh.out("tiny", "report.json").exists()


def test_an_unknown_target_is_named(project: ProjectDir) -> None:
    result = project.doit("tiny:onyx")
    assert result.code == 3
    assert "tiny:onyx" in result.text
    assert "Traceback" not in result.text


@pytest.mark.parametrize("command", ["plan", "status", "why", "rebuild-check"])
def test_a_command_names_a_target_it_does_not_know(project: ProjectDir, command: str) -> None:
    result = project.doit(command, "tiny:onyx")
    assert result.code == 3
    assert 'Did you mean "tiny:onnx"?' in result.text
    assert "Traceback" not in result.text


def test_info_says_why(project: ProjectDir) -> None:
    assert "up-to-date" in project.doit("info", "tiny:onnx").out
    project.manifest(lambda m: m["gates"]["task"].update(min=0.8))
    result = project.doit("info", "tiny:verdict.task")
    assert "0.9 -> 0.8" in result.out
    assert "Traceback" not in result.text


def test_clean_takes_the_copies_and_the_next_build_restores_them(project: ProjectDir) -> None:
    before = project.contents()
    assert project.doit("clean").code == 0
    assert project.contents() == {}
    assert not project.out("tiny", "report.json").exists()
    assert project.doit("clean").code == 0
    result = project.doit()
    assert result.of("restored") == ALL
    assert project.executed() == set()
    assert project.contents() == before
    assert project.report()["ok"] is True


def test_clean_with_dry_run_takes_nothing(project: ProjectDir) -> None:
    before = project.contents()
    assert project.doit("clean", "--dry-run", "--forget").code == 0
    assert project.contents() == before
    assert project.doit().of("up to date") == ALL


def test_clean_and_forget_runs_all_again(project: ProjectDir) -> None:
    before = project.contents()
    assert project.doit("clean", "--forget").code == 0
    project.doit()
    assert project.executed() == MADE
    assert project.contents() == before


def test_forget_runs_that_recipe_again(project: ProjectDir) -> None:
    assert project.doit("forget", "tiny:reference").code == 0
    result = project.doit()
    assert project.executed() == {"tiny:reference"}
    assert result.of("up to date") == ALL - {"tiny:reference"}


def test_forget_works_without_a_memory_of_the_last_build(project: ProjectDir) -> None:
    project.path(".cache/state.db").unlink()
    assert project.doit("forget", "tiny:reference").code == 0
    project.doit()
    assert project.executed() == {"tiny:reference"}


def test_forget_a_model_runs_all_of_it_again(project: ProjectDir) -> None:
    assert project.doit("forget", "tiny").code == 0
    project.doit()
    assert project.executed() == MADE


# -- plan, why, status


def test_plan_says_what_the_build_then_does(fresh: ProjectDir) -> None:
    plan = fresh.doit("plan")
    assert plan.code == 0, plan.text
    words = {name: rest.split()[0] for name, rest in _rows(plan.out).items()}
    assert words == {name: "build" if name in (DATA_TARGET, "tiny:onnx") else "may" for name in ALL}
    assert fresh.executed() == set()
    assert not fresh.path(".cache/out").exists()

    fresh.doit()
    assert fresh.doit("plan").out == f"{len(ALL)} up to date\n"
    shutil.rmtree(fresh.out("tiny:onnx"))
    assert _rows(fresh.doit("plan").out)["tiny:onnx"].startswith("restore")
    fresh.write("shop/sizes.py", "SAMPLES = 25\n")
    rows = _rows(fresh.doit("plan", "tiny:reference").out)
    assert rows[DATA_TARGET] == "build      code changed: shop.sizes"
    assert rows["tiny:reference"].startswith("may build")
    assert set(rows) == UPSTREAM


def _rows(text: str) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in text.splitlines() if line.startswith("tiny:"))


def test_why_shows_the_parts_that_changed(project: ProjectDir) -> None:
    whole = project.doit("why", "tiny:verdict.task")
    assert whole.code == 0
    assert "* " not in whole.out
    assert "  param /gate/min: 0.9" in whole.out
    project.manifest(lambda m: m["gates"]["task"].update(min=0.8))
    result = project.doit("why", "tiny:verdict.task")
    assert [line for line in result.out.splitlines() if line.startswith("*")] == [
        "* param /gate/min: 0.9 -> 0.8"
    ]
    assert project.doit("why").code == 3


def test_status_tells_state_size_and_place(fresh: ProjectDir) -> None:
    assert fresh.doit("status").out.splitlines()[-2:] == [
        f"0 of {len(ALL)} up to date",
        f"tiny: not judged, {len(ALL)} of its targets are not up to date",
    ]
    fresh.doit("tiny:onnx")
    lines = fresh.doit("status").out.splitlines()
    onnx = next(line for line in lines if line.startswith("tiny:onnx"))
    assert "up to date" in onnx
    assert ".cache/out/tiny/onnx" in onnx
    assert f"1 of {len(ALL)} up to date" in lines


# -- verify, rebuild-check


def test_verify_reads_all_and_finds_nothing(project: ProjectDir) -> None:
    result = project.doit("verify")
    assert result.code == 0, result.text
    assert f"{len(project.objects())} objects" in result.out
    assert f"{len(ALL)} copies" in result.out


def test_verify_finds_every_kind_of_damage_and_the_next_build_mends_it(project: ProjectDir) -> None:
    project.doit()
    before = project.contents()
    damaged = project.object_of(DATA_TARGET, "data.safetensors")
    overwrite(damaged, flipped(damaged.read_bytes()))
    torn = next(path for path in project.records() if f'"{DATA_TARGET}"' not in path.read_text())
    overwrite(torn, b"torn")  # not the one that says whose the damaged object is
    overwrite(project.out("tiny:phone", "io.json"), b"{}")
    result = project.doit("verify")
    assert result.code == 1
    assert DATA_TARGET in result.out
    assert "record " in result.out
    assert ".cache/out/tiny/phone" in result.out
    after = project.doit()
    assert after.code == 0, after.text
    assert project.contents() == before
    assert project.doit("verify").code == 0


def test_verify_trusts_no_stamp(project: ProjectDir) -> None:
    """A file whose bytes changed under the very stamp it had (a disk that lies) is found by reading it."""
    project.doit()
    copy = project.out("tiny:phone", "io.json")
    overwrite(copy, flipped(copy.read_bytes()))
    assert project.doit("verify").code == 1
    assert project.doit().of("restored") == {"tiny:phone"}


def test_rebuild_check_compares_bytes(project: ProjectDir) -> None:
    before = project.contents()
    result = project.doit("rebuild-check")
    assert result.code == 0, result.text
    assert result.out.count("same bytes twice") == len(ALL)
    assert project.contents() == before
    assert project.doit().of("up to date") == ALL


def test_rebuild_check_finds_a_recipe_that_is_not_steady(project: ProjectDir) -> None:
    project.replace("shop/data.py", "default_rng(3)", "default_rng()")
    result = project.doit("rebuild-check", DATA_TARGET)
    assert result.code == 1
    assert f"{DATA_TARGET}: DIFFERS: data.safetensors" in result.out


def test_rebuild_check_needs_inputs(fresh: ProjectDir) -> None:
    result = fresh.doit("rebuild-check", "tiny:reference")
    assert result.code == 3
    assert "Run `doit tiny:reference` first" in result.err


# -- gc


def test_gc_takes_only_what_no_record_names(project: ProjectDir) -> None:
    objects, before = project.objects(), project.contents()
    orphan = project.path(".cache/objects/ff/" + "0" * 30)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x" * 2000)
    dry = project.doit("gc", "--dry-run")
    assert "would free 2.0 kB" in dry.out
    assert orphan.exists()
    result = project.doit("gc")
    assert result.code == 0, result.text
    assert "freed 2.0 kB" in result.out
    assert project.objects() == objects
    assert project.contents() == before
    assert project.doit().of("up to date") == ALL


def test_gc_by_age_drops_old_states_and_keeps_the_present(project: ProjectDir) -> None:
    _age(project, 40)
    project.write("shop/sizes.py", "SAMPLES = 25\n")
    project.doit()
    assert project.doit("gc", "--max-age", "30d").code == 0
    result = project.doit()
    assert result.code == 0, result.text
    assert project.executed() == set()
    assert project.report()["ok"] is True
    project.write("shop/sizes.py", "SAMPLES = 24\n")
    project.doit()
    assert DATA_TARGET in project.executed()


@pytest.mark.parametrize("limit", [("--max-age", "0m"), ("--max-size", "0")])
def test_gc_of_everything_leaves_a_project_that_still_works(
    project: ProjectDir, limit: tuple[str, str]
) -> None:
    before = project.contents()
    _age(project, 1)
    assert project.doit("gc", *limit).code == 0
    assert project.objects() == project.records() == []
    result = project.doit()
    assert result.code == 0, result.text
    assert project.report()["ok"] is True
    assert project.contents() == before
    assert project.doit("deliver", "--to", "shipped").code == 0
    project.manifest(lambda m: m["platforms"].update(watch={"runtime": "onnxruntime", "threads": 2}))
    assert project.doit().code == 0


def test_gc_keeps_within_a_size(project: ProjectDir) -> None:
    assert project.doit("gc", "--max-size", "3K").code == 0
    assert sum(path.stat().st_size for path in project.objects()) <= 3000
    assert project.doit().code == 0


def test_gc_keeps_what_is_pinned(project: ProjectDir) -> None:
    assert project.doit("gc", "--pin", DATA_TARGET).code == 0
    project.write("shop/sizes.py", "SAMPLES = 25\n")
    project.doit()
    _age(project, 1)
    assert project.doit("gc", "--max-age", "1h").code == 0
    assert len(project.records()) == 1
    project.write("shop/sizes.py", "SAMPLES = 24\n")
    assert DATA_TARGET in project.doit().of("restored")
    assert project.doit("gc", "--unpin", DATA_TARGET).code == 0
    _age(project, 1)
    project.doit("gc", "--max-age", "1h")
    assert project.records() == []


def test_gc_refuses_what_it_does_not_understand(fresh: ProjectDir) -> None:
    for args in (
        ("--max-age", "soon"),
        ("--max-size", "-1"),
        ("--max-size", "3d"),
        ("--pin",),
        ("--pin", "tiny:onnx"),
    ):
        result = fresh.doit("gc", *args)
        assert result.code == 3, args
        assert "Traceback" not in result.text, args


# -- deliver


def test_deliver_copies_what_ships_with_its_verdicts(project: ProjectDir) -> None:
    result = project.doit("deliver", "--to", "shipped/here")
    assert result.code == 0, result.text
    there = project.path("shipped/here/tiny")
    assert {p.name for p in there.iterdir()} == {"phone", "browser", "delivery.json"}
    assert (there / "phone/model.onnx").read_bytes() == project.out("tiny:phone", "model.onnx").read_bytes()
    said = json.loads((there / "delivery.json").read_text())
    assert said["ok"] is True
    assert said["delivered"] == ["phone", "browser"]
    (there / "phone" / "stray").write_text("of an earlier delivery")
    assert project.doit("deliver", "--to", "shipped/here").code == 0
    assert not (there / "phone" / "stray").exists()
    assert [p.name for p in there.parent.iterdir()] == ["tiny"]


def test_deliver_refuses_what_was_not_built(fresh: ProjectDir) -> None:
    result = fresh.doit("deliver", "--to", "shipped")
    assert result.code == 1
    assert "Run `doit tiny` first" in result.err
    assert not fresh.path("shipped").exists()


def test_deliver_refuses_what_changed_since(project: ProjectDir) -> None:
    project.write("shop/sizes.py", "SAMPLES = 25\n")
    result = project.doit("deliver", "--to", "shipped")
    assert result.code == 1
    assert "shop.sizes" in result.err


def test_deliver_refuses_what_is_red(project: ProjectDir) -> None:
    project.manifest(lambda m: m["data"]["evaluation"].update(args={"wrong": 12}))
    assert project.doit().code == 1
    result = project.doit("deliver", "--to", "shipped")
    assert result.code == 1
    assert "red" in result.err
    assert not project.path("shipped").exists()


def test_deliver_says_what_is_wrong_with_the_command(project: ProjectDir) -> None:
    project.write("file", "not a folder")
    for args in ((), ("--to", "x", "tinny"), ("--to", "file")):
        result = project.doit("deliver", *args)
        assert result.code in (2, 3), (args, result.text)
        assert "Traceback" not in result.text, (args, result.text)


# -- a build with nothing to do


def test_a_build_with_nothing_to_do_loads_no_framework(project: ProjectDir) -> None:
    project.doit()
    project.write(
        "spy/sitecustomize.py",
        "import atexit\nimport sys\n\n"
        "atexit.register(lambda: open('loaded.txt', 'w').write('\\n'.join(sys.modules)))\n",
    )
    paths = os.pathsep.join([str(project.path("spy")), os.environ.get("PYTHONPATH", "")])
    result = project.doit(env={"PYTHONPATH": paths})
    assert result.of("up to date") == ALL
    loaded = set(project.path("loaded.txt").read_text().split())
    assert "modelbuild.doit_tasks" in loaded
    assert loaded & set(HEAVY) == set()


def test_a_summary_for_ci_is_written_by_every_run(project: ProjectDir) -> None:
    summary = project.path("summary.md")
    for run in (1, 2):
        assert project.doit(env={"GITHUB_STEP_SUMMARY": str(summary)}).code == 0
        assert summary.read_text().count("tiny") >= run
    assert project.executed() == set()


def test_always_execute_runs_the_recipe_of_what_is_up_to_date(project: ProjectDir) -> None:
    result = project.doit("-a", "tiny:onnx")
    assert result.code == 0
    assert result.states == {"tiny:onnx": "built"}
    assert project.executed() == {"tiny:onnx"}
    assert project.doit().of("built") == set()
