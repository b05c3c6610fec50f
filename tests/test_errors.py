import copy

import pytest

from modelbuild import errors
from modelbuild.errors import (
    BuildError,
    CommandError,
    InputChangedError,
    JobCrashedError,
    ManifestError,
    ModelbuildError,
    RecipeError,
    StoreError,
    UserError,
    did_you_mean,
)


@pytest.mark.parametrize(
    ("error", "code", "family"),
    [
        (ManifestError, 3, UserError),
        (CommandError, 3, UserError),
        (RecipeError, 1, BuildError),
        (InputChangedError, 1, BuildError),
        (JobCrashedError, 1, BuildError),
        (StoreError, 2, ModelbuildError),
    ],
)
def test_the_exit_code_says_whose_fault_it_is(error, code, family):
    assert error.exit_code == code
    assert issubclass(error, family)
    assert issubclass(error, ModelbuildError)


def test_every_error_is_drawn_in_the_docstring():
    defined = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, ModelbuildError)}
    assert {name for name in defined if name in errors.__doc__} == defined


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("place", "fact", "remedy"), "place: fact. remedy"),
        (("", "fact", "remedy"), "fact. remedy"),
        (("place", "fact", ""), "place: fact"),
        (("", "fact", ""), "fact"),
    ],
)
def test_the_text_has_the_parts_that_are_there(parts, text):
    error = ModelbuildError(*parts)
    assert str(error) == text
    assert (error.place, error.fact, error.remedy) == parts


def test_an_error_keeps_its_parts_as_arguments():
    assert copy.copy(RecipeError("a", "b", "c")).args == ("a", "b", "c")


def test_a_near_miss_is_named():
    assert did_you_mean("flaot16", ["float16", "float32"]) == 'Did you mean "float16"?'


def test_a_far_miss_lists_what_is_known_in_order():
    assert did_you_mean("zzz", ["beta", "alpha"]) == "Known: alpha, beta."


def test_nothing_known_says_nothing():
    assert did_you_mean("x", []) == ""
