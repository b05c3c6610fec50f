import sys
from importlib.metadata import version

import pytest

from modelbuild import versions
from modelbuild.versions import ImportNames, installed, normal


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages that is the only one on the path."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder), str(tmp_path / "none"), str(tmp_path / "some.zip")])
    installed.cache_clear()
    yield folder
    installed.cache_clear()


def test_the_quick_answer_is_that_of_importlib():
    installed.cache_clear()
    for name in ("numpy", "doit", "xxhash", "pytest", "safetensors"):
        assert installed()[name] == version(name)


@pytest.mark.parametrize(
    ("folder", "name", "found"),
    [
        ("numpy-2.4.6.dist-info", "numpy", "2.4.6"),
        ("torch-2.13.0+cpu.dist-info", "torch", "2.13.0+cpu"),
        ("scikit_learn-1.5.0rc1.dist-info", "scikit-learn", "1.5.0rc1"),
        ("ruamel.yaml-0.18.dist-info", "ruamel-yaml", "0.18"),
        ("old-1.0-py3.11.egg-info", "old", "1.0"),
        ("my_pkg_2-1!3.0.dist-info", "my-pkg-2", "1!3.0"),
        ("Big-1.0.dev3.dist-info", "big", "1.0.dev3"),
    ],
)
def test_names_and_versions_are_read_from_the_folder(site, folder, name, found):
    (site / folder).mkdir()
    assert installed() == {name: found}


def test_other_names_are_no_distributions(site):
    for name in ("numpy", "numpy.libs", "x-1.0.py", "dev.egg-info", "-1.0.dist-info", "~umpy-1.0.dist-info"):
        (site / name).mkdir()
    assert installed() == {}


def test_the_first_on_the_path_wins(site, monkeypatch, tmp_path):
    (tmp_path / "second").mkdir()
    monkeypatch.setattr(sys, "path", [str(site), str(tmp_path / "second")])
    (site / "a-1.0.dist-info").mkdir()
    (tmp_path / "second" / "a-2.0.dist-info").mkdir()
    assert installed() == {"a": "1.0"}


def test_names_compare_as_pep_503_says():
    assert normal("Scikit_Learn") == normal("scikit--learn") == normal("scikit.learn") == "scikit-learn"


@pytest.fixture
def world(monkeypatch):
    """Two distributions, one of which has another import name, and a count of the slow look-ups."""
    slow = []
    table = {"sklearn": ["scikit-learn"], "ns": ["ns-one", "NS_two"], "gone": ["not-there"]}
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: slow.append(1) or table)
    have = {"numpy": "2.0", "scikit-learn": "1.5", "ns-one": "1", "ns-two": "2"}
    monkeypatch.setattr(versions, "installed", lambda: have)
    return have, slow


def test_an_import_name_leads_to_its_distributions(world):
    names = ImportNames({})
    assert names.versions("numpy") == {"numpy": "2.0"}
    assert names.versions("sklearn") == {"scikit-learn": "1.5"}
    assert names.versions("ns") == {"ns-one": "1", "ns-two": "2"}
    assert names.versions("gone") == names.versions("unheard") == {}


def test_the_slow_look_up_is_made_once_an_environment(world):
    have, slow = world
    memo = {}
    for _ in range(3):
        ImportNames(memo).versions("sklearn")
    assert len(slow) == 1
    have["new"] = "1"
    ImportNames(memo).versions("sklearn")
    assert len(slow) == 2


def test_an_obvious_name_needs_no_look_up(world):
    ImportNames({}).versions("numpy")
    assert world[1] == []
