"""OPERATIONS.md says what the tests are, and they leave no operation out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import table


def test_the_page_is_what_the_tests_are():
    assert table.PAGE.read_text() == table.page(), "run: python tests/coreml/table.py"


@pytest.mark.parametrize("name", table.operations())
def test_every_operation_of_ios_15_to_18_is_evaluated_and_tested_or_refused(name):
    if name in table.RANDOM:
        assert name not in table.ops.KERNELS
        return
    assert name in table.ops.KERNELS or name in table.CONTROL
    assert table.cases().get(name) or name in table.covered()


def test_what_a_file_says_it_covers_it_builds():
    for name, (file, _) in table.covered().items():
        tree = ast.parse((Path(__file__).parent / file).read_text())
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        called |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        called |= {
            n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
        }
        aliases = {"write_state": "coreml_update_state"}
        assert called & {name, aliases.get(name, name)} - {""}, f"{file}: {name}"
