import sys

import pytest

from modelbuild import modules
from modelbuild.closure import ClosureReader, Finder, read_imports
from modelbuild.digest import of_file
from modelbuild.modules import locate


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def closure(root, files, *start):
    write(root, files)
    return ClosureReader(root, of_file, {}).closure(start)


def names(found):
    return [name for name, _ in found.files]


@pytest.mark.parametrize(
    "statement",
    [
        "import pkg.deep",
        "import pkg.deep as d",
        "from pkg import deep",
        "from pkg.deep import thing",
        "from pkg.deep import *",
        "import os, pkg.deep",
        "def f():\n    import pkg.deep",
        "async def f():\n    async with x:\n        from pkg import deep",
        "class A:\n    def f(self):\n        from pkg import deep",
        "try:\n    import pkg.deep\nexcept ImportError:\n    pass",
        "try:\n    import nothing_there\nexcept ImportError:\n    import pkg.deep",
        "if True:\n    pass\nelif x:\n    import pkg.deep\nelse:\n    pass",
        "if not TYPE_CHECKING:\n    import pkg.deep",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import pkg.deep",
        "match x:\n    case 1:\n        import pkg.deep",
        "while x:\n    pass\nelse:\n    import pkg.deep",
    ],
)
def test_every_import_that_can_run_is_followed(tmp_path, statement):
    files = {"start.py": statement, "pkg/__init__.py": "", "pkg/deep.py": "", "pkg/other.py": ""}
    assert names(closure(tmp_path, files, "start")) == ["pkg", "pkg.deep", "start"]


@pytest.mark.parametrize("guard", ["TYPE_CHECKING", "typing.TYPE_CHECKING", "t.TYPE_CHECKING"])
def test_what_only_a_type_checker_imports_is_not(tmp_path, guard):
    text = f"if {guard}:\n    import other\n    import numpy\nelse:\n    import real"
    found = closure(tmp_path, {"start.py": text, "other.py": "", "real.py": ""}, "start")
    assert names(found) == ["real", "start"]
    assert found.external == frozenset()


@pytest.mark.parametrize(
    ("where", "statement", "reached"),
    [
        ("pkg/a.py", "from . import b", {"pkg.b"}),
        ("pkg/a.py", "from .b import thing", {"pkg.b"}),
        ("pkg/a.py", "from .sub import c", {"pkg.sub", "pkg.sub.c"}),
        ("pkg/__init__.py", "from . import b", {"pkg.b"}),
        ("pkg/__init__.py", "from .b import thing", {"pkg.b"}),
        ("pkg/sub/__init__.py", "from .. import b", {"pkg.b", "pkg.sub"}),
        ("pkg/sub/c.py", "from ..b import thing", {"pkg.b", "pkg.sub"}),
        ("pkg/sub/c.py", "from .. import sub", {"pkg.sub"}),
        ("pkg/sub/c.py", "from ... import d", {"pkg.sub"}),
        ("pkg/sub/c.py", "from ..... import d", {"pkg.sub"}),
    ],
)
def test_relative_imports_are_resolved(tmp_path, where, statement, reached):
    files = dict.fromkeys(
        ["pkg/__init__.py", "pkg/a.py", "pkg/b.py", "pkg/sub/__init__.py", "pkg/sub/c.py", "d.py"], ""
    )
    dotted = where.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    found = names(closure(tmp_path, {**files, where: statement}, dotted))
    assert set(found) == {"pkg", dotted} | reached


def test_the_closure_is_transitive_and_survives_a_circle(tmp_path):
    files = {"a.py": "import b", "b.py": "import c, numpy", "c.py": "import a", "d.py": ""}
    found = closure(tmp_path, files, "a")
    assert names(found) == ["a", "b", "c"]
    assert found.external == {"numpy"}


def test_packages_on_the_way_are_part_of_it(tmp_path):
    files = {"p/__init__.py": "import side", "p/q/__init__.py": "", "p/q/r.py": "", "side.py": ""}
    assert names(closure(tmp_path, files, "p.q.r")) == ["p", "p.q", "p.q.r", "side"]


def test_a_folder_without_init_is_no_module_and_no_obstacle(tmp_path):
    found = closure(tmp_path, {"start.py": "import ns.deep", "ns/deep.py": "import numpy.linalg"}, "start")
    assert names(found) == ["ns.deep", "start"]
    assert found.external == {"numpy"}


def test_a_folder_of_the_project_does_not_hide_an_installed_package(tmp_path):
    found = closure(tmp_path, {"start.py": "import numpy", "numpy/readme.txt": ""}, "start")
    assert found.external == {"numpy"}


def test_a_package_goes_before_a_module_of_its_name(tmp_path):
    write(tmp_path, {"a.py": "", "a/__init__.py": ""})
    assert Finder(tmp_path).find("a") == tmp_path / "a" / "__init__.py"


def test_a_star_import_reaches_the_submodules_that_all_names(tmp_path):
    files = {"start.py": "from pkg import *", "pkg/__init__.py": '__all__ = ["sub"]', "pkg/sub.py": ""}
    assert "pkg.sub" in names(closure(tmp_path, files, "start"))


def test_the_standard_library_is_not_external(tmp_path):
    assert closure(tmp_path, {"start.py": "import os.path, json, sys"}, "start").external == frozenset()


def test_an_installed_module_is_named_by_its_package(tmp_path):
    found = closure(tmp_path, {}, "numpy.linalg")
    assert found.files == ()
    assert found.external == {"numpy"}


def test_modelbuild_follows_itself_from_any_project(tmp_path):
    found = closure(tmp_path, {}, "modelbuild.tensors")
    assert names(found) == ["modelbuild", "modelbuild.tensors"]
    assert found.external == {"numpy", "safetensors"}


@pytest.mark.parametrize("text", ["def (", "\0", "import os\n  import x", "'unclosed"])
def test_a_file_that_does_not_parse_has_no_imports(text):
    assert read_imports(text.encode()) == []


@pytest.mark.parametrize(
    "text",
    [
        "import deep\nx = " + " + ".join(["1"] * 1200),
        "import deep\nif a == 0:\n    pass\n" + "".join(f"elif a == {n}:\n    pass\n" for n in range(700)),
        "import deep\nx = " + "f" + "(1)" * 600,
    ],
    ids=["sum", "elif", "calls"],
)
def test_code_of_any_depth_is_read(text):
    assert (0, "deep", []) in [tuple(found) for found in read_imports(text.encode())]


def test_a_file_is_parsed_once_for_all_runs(tmp_path, monkeypatch):
    memo = {}
    write(tmp_path, {"a.py": "import b", "b.py": ""})
    first = ClosureReader(tmp_path, of_file, memo).closure(("a",))
    monkeypatch.setattr("modelbuild.closure.read_imports", lambda source: pytest.fail("parsed again"))
    assert ClosureReader(tmp_path, of_file, memo).closure(("a",)) == first


# -- which module a manifest may name


def test_a_module_of_the_project_is_located(tmp_path):
    write(tmp_path, {"nets/__init__.py": "", "nets/small.py": ""})
    assert locate(tmp_path, "nets.small") == tmp_path / "nets" / "small.py"
    assert locate(tmp_path, "nets") == tmp_path / "nets" / "__init__.py"


def test_an_installed_module_is_located_without_importing_it(tmp_path):
    sys.modules.pop("safetensors.paddle", None)
    assert locate(tmp_path, "safetensors.paddle").name == "paddle.py"
    assert "safetensors.paddle" not in sys.modules


@pytest.mark.parametrize(
    ("dotted", "words"),
    [
        ("os", "part of Python itself"),
        ("os.path", "part of Python itself"),
        ("nowhere_at_all", "there is no module"),
        ("numpy.nowhere", "has no module"),
        ("..evil", "is not a module name"),
        ("a b", "is not a module name"),
        ("", "is not a module name"),
    ],
)
def test_what_may_not_be_named_is_refused_in_words(tmp_path, dotted, words):
    with pytest.raises(LookupError, match=words):
        locate(tmp_path, dotted)


def test_a_link_out_of_the_project_is_refused(tmp_path):
    write(tmp_path, {"outside.py": "", "project/readme": ""})
    (tmp_path / "project" / "evil.py").symlink_to(tmp_path / "outside.py")
    with pytest.raises(LookupError, match="leaves the project"):
        locate(tmp_path / "project", "evil")


def test_a_module_outside_project_and_packages_is_refused(tmp_path, monkeypatch):
    write(tmp_path, {"elsewhere/stray_module_of_nobody.py": ""})
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    with pytest.raises(LookupError, match="outside the project"):
        modules.locate(tmp_path / "project", "stray_module_of_nobody")
