from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from modelbuild.equivalence import verdict
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import RecipeError

GREEN = Verdict("m:ios", "ios", "1", "cpu", "reference", "y", "max_abs", 0.5, 1.0, True, "executed", "fine")
RED = replace(GREEN, measured=None, ok=False)


def test_there_and_back(tmp_path: Path) -> None:
    verdict.write(tmp_path / "verdicts.json", [GREEN, RED])
    assert verdict.read(tmp_path / "verdicts.json") == (GREEN, RED)
    record = json.loads((tmp_path / "verdicts.json").read_text())
    assert record["ok"] is False
    assert list(record["verdicts"][0]) == sorted(GREEN.to_json())


def test_no_verdict_is_no_pass(tmp_path: Path) -> None:
    assert verdict.passed([GREEN])
    assert not verdict.passed([GREEN, RED])
    assert not verdict.passed([])
    verdict.write(tmp_path / "v.json", [])
    assert json.loads((tmp_path / "v.json").read_text())["ok"] is False


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    verdict.write(tmp_path / "v.json", [RED])
    text = (tmp_path / "v.json").read_text()
    (tmp_path / "v.json").write_text(text.replace('{\n "ok": false', '{\n "ok": true'))
    with pytest.raises(RecipeError, match="its verdicts say False"):
        verdict.read(tmp_path / "v.json")


def test_fields_are_exact() -> None:
    with pytest.raises(RecipeError, match=r'unknown field "limits"\. Did you mean "limit"'):
        Verdict.from_json({**GREEN.to_json(), "limits": 1})
    with pytest.raises(RecipeError, match="missing field detail"):
        Verdict.from_json({k: v for k, v in GREEN.to_json().items() if k != "detail"})


def test_a_number_that_json_cannot_hold_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        verdict.write(tmp_path / "v.json", [replace(GREEN, measured=math.nan)])
