"""The browser as a platform: missing ones, demanded ones, one that answers wrong, and processors that saturate."""

from __future__ import annotations

import json
from typing import Any

import pytest
from project_dir import ProjectDir

from modelbuild import nodejs

INSTALL = "apt-get install chromium"


def with_browser(project: ProjectDir, **options: Any) -> None:
    platform = {"runtime": "onnxruntime-web", "executable": "no-such-browser", **options}
    project.manifest(lambda m: m["platforms"].update(browser=platform))


@pytest.fixture(autouse=True)
def _node() -> None:
    if nodejs.find() is None:
        pytest.skip(f"there is no Node: {nodejs.REMEDY}")


def test_a_browser_that_is_not_there_is_not_evidenced_and_never_a_pass(project: ProjectDir) -> None:
    with_browser(project)
    result = project.doit()
    assert result.code == 0, result.text
    assert "warning: browser chromium-wasm: not evidenced" in result.text
    assert INSTALL in result.text
    (row,) = (r for r in project.report()["verdicts"] if r["backend"] == "chromium-wasm")
    assert (row["metric"], row["evidence"], row["measured"]) == ("evidence", "none", None)
    assert "not evidenced" in project.out("tiny", "report.html").read_text()
    ran = {r["backend"] for r in project.report()["verdicts"] if r["platform"] == "browser"} - {
        "chromium-wasm"
    }
    assert all("in Node" in backend for backend in ran)
    assert ran


def test_what_the_command_line_demands_fails_the_build(project: ProjectDir) -> None:
    with_browser(project)
    assert project.doit().code == 0
    demanded = project.doit("--require", "browser:chromium")
    assert demanded.code == 1, demanded.text
    assert "demanded by --require browser:chromium" in demanded.text
    assert INSTALL in demanded.text
    assert project.report()["ok"] is False
    assert project.doit("--require", "browser:node").code == 0
    assert project.doit().code == 0
    assert project.report()["ok"] is True


def test_a_demand_that_nothing_could_meet_is_a_mistake(project: ProjectDir) -> None:
    with_browser(project)
    result = project.doit("--require", "browser:chrom")
    assert result.code == 3
    assert 'platform "browser" is never run as "chrom"' in result.text
    assert "Traceback" not in result.text


def test_a_required_platform_with_no_host_at_all_is_red(project: ProjectDir) -> None:
    with_browser(project, hosts=["chromium"])
    result = project.doit()
    assert result.code == 1
    assert "browser is required and not evidenced" in result.text
    assert INSTALL in result.text
    project.manifest(lambda m: m["platforms"]["browser"].update(required=False))
    assert project.doit().code == 0


def test_a_way_more_leaves_the_artefact_and_the_other_ways_as_they_are(project: ProjectDir) -> None:
    with_browser(project, hosts=["node"])
    assert project.doit().code == 0
    project.manifest(lambda m: m["platforms"]["browser"].update(threads=[1, 2]))
    result = project.doit()
    assert result.code == 0, result.text
    assert result.of("built") == {
        "tiny:browser.run.node-wasm-2-threads",
        "tiny:verdict.runtime",
        "tiny:repro",
    }


def test_adding_a_version_is_one_line_and_runs_that_version_alone(project: ProjectDir) -> None:
    versions = ["1.18.1"]
    name = next(iter(json.loads(project.path("manifests/tiny.json").read_text())["platforms"]))
    project.manifest(lambda m: m["platforms"][name].update(versions=versions))
    first = project.doit()
    assert first.code == 0, first.text
    assert f"tiny:{name}" not in first.of("built")  # the file is the same
    project.manifest(lambda m: m["platforms"][name].update(versions=[*versions, "1.32.0"]))
    result = project.doit()
    assert result.code == 0, result.text
    assert result.of("built") == {
        "tiny:environment.onnxruntime-1.32.0", f"tiny:{name}.run.1.32.0", "tiny:verdict.runtime", "tiny:repro",
    }  # fmt: skip
    assert {r["version"] for r in project.report()["verdicts"]} >= {"1.18.1", "1.32.0"}
    assert set(project.doit().states.values()) == {"up to date"}


def test_a_version_that_there_is_not_is_said_with_its_remedy(project: ProjectDir) -> None:
    name = next(iter(json.loads(project.path("manifests/tiny.json").read_text())["platforms"]))
    project.manifest(lambda m: m["platforms"][name].update(versions=["1.18.77"]))
    result = project.doit()
    assert result.code == 1
    assert "the python environment of onnxruntime==1.18.77" in result.text
    assert "Check the versions" in result.text
    assert "Traceback" not in result.text
