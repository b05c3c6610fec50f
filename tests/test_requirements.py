import pytest
from fakes import plan_of, target

from modelbuild import requirements
from modelbuild.equivalence.gate import Subject
from modelbuild.errors import CommandError
from modelbuild.targets import Recipe, Target


def plan():
    told = {"browser": {"absent": {"chromium-wasm": "there is none"}}, "ios": {"absent": {}}}
    verdict = Target("m:verdict.runtime", Recipe("x:y"), "", {"platforms": told})
    runs = [
        target("m:browser.run.node-wasm-2-threads"),
        target("m:ios.run"),
        target("m:ios.run.float16-sums"),
    ]
    return plan_of(*runs, verdict)


@pytest.mark.parametrize(
    "name",
    ["browser", "browser:chromium", "browser:wasm", "browser:node-wasm-2-threads", "ios", "ios:float16-sums"],
)
def test_what_some_platform_can_meet_is_taken(name):
    requirements.check((name,), plan())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("browsr", 'no model has a platform "browsr". Did you mean "browser"'),
        ("browser:chrome", 'platform "browser" is never run as "chrome"'),
        ("browser:chromium-webgpu", "is never run as"),
        ("browser:chro", "is never run as"),
        ("ios:chromium", 'never run as "chromium"'),
    ],
)
def test_what_nothing_could_meet_is_refused(name, words):
    with pytest.raises(CommandError) as caught:
        requirements.check((name,), plan())
    assert words in str(caught.value)
    assert f"--require {name}" in str(caught.value)


def row(platform="browser", way="chromium-wasm", evidence="none", metric="evidence"):
    subject = Subject(f"m:{platform}", platform, "", way, "reference", evidence)
    return subject.says("", metric, None, None, True, "not evidenced: there is none")


@pytest.mark.parametrize("name", ["browser", "browser:chromium", "browser:wasm", "browser:chromium-wasm"])
def test_what_is_required_and_not_evidenced_is_red_and_says_why(name):
    found = requirements.held_to(row(), (name,))
    assert not found.ok
    assert found.detail == f"not evidenced: there is none (demanded by --require {name})"


def test_a_platform_that_is_not_here_at_all_meets_no_way_of_it():
    assert not requirements.held_to(row(way=""), ("browser:chromium",)).ok


@pytest.mark.parametrize("name", ["ios", "browser:webgpu", "browser:chrom"])
def test_what_is_not_required_stays(name):
    assert requirements.held_to(row(), (name,)) == row()


def test_what_is_evidenced_or_speaks_of_something_else_stays():
    for kept in (row(evidence="executed"), row(metric="max_abs")):
        assert requirements.held_to(kept, ("browser",)) == kept
