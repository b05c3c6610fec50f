import json
import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbuild import strictjson
from modelbuild.errors import ManifestError
from modelbuild.limits import LIMITS
from modelbuild.strictjson import canonical, parse, read, walk
from modelbuild.wording import at, closest, pointer, quote, shown

PLACE = "manifests/x.json"

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def refusal(data):
    with pytest.raises(ManifestError) as caught:
        parse(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"), PLACE)
    return caught.value


@given(VALUES)
def test_reads_back_what_json_writes(value):
    assert parse(json.dumps(value).encode(), PLACE) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode(), PLACE) == value


@given(st.binary(max_size=60) | st.text('[]{}",:\\u0123dNaIinfty-+.eE \n', max_size=60).map(str.encode))
def test_raises_nothing_but_a_manifest_error(data):
    try:
        parse(data, PLACE)
    except ManifestError as error:
        assert error.place.startswith(PLACE)
        assert str(error).isprintable()


@pytest.mark.parametrize(
    ("data", "place", "fact"),
    [
        ('{"a": 1,}', f"{PLACE}:1:9", "is not JSON: "),
        ('{\n  "a": tru\n}', f"{PLACE}:2:8", "is not JSON: expecting value"),
        ("", f"{PLACE}:1:1", "is not JSON: expecting value"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', f"{PLACE}#/a", 'the key "b" stands here twice'),
        ('[{"a": NaN}]', f"{PLACE}#/0/a", "NaN is not JSON"),
        ("[-Infinity]", f"{PLACE}#/0", "-Infinity is not JSON"),
        ('{"lr": 1e999}', f"{PLACE}#/lr", "1e999 is too large for a number"),
        ('{"n": 9223372036854775808}', f"{PLACE}#/n", "9223372036854775808 does not fit 64 bits"),
        ('{"n": -%s}' % ("9" * 6000), f"{PLACE}#/n", "-999"),
        (b"\xef\xbb\xbf{}", PLACE, "begins with a byte order mark"),
        (b'{"a": "\xff"}', PLACE, "is not UTF-8 (byte 7)"),
        ("{}".encode("utf-16"), PLACE, "is not UTF-8"),
        ('["\\ud800"]', f"{PLACE}#/0", "holds half of a surrogate pair"),
        ('{"\\udc00": 1}', PLACE, "holds half of a surrogate pair"),
    ],
)
def test_refuses_with_place_and_fact(data, place, fact):
    error = refusal(data)
    assert error.place == place
    assert error.fact.startswith(fact)


def test_depth_up_to_the_limit_is_read_and_one_more_is_not():
    deepest = "[" * LIMITS.json_depth + "]" * LIMITS.json_depth
    assert parse(deepest.encode(), PLACE) is not None
    error = refusal("\n[" + deepest + "]")
    assert error.fact == f"is nested deeper than {LIMITS.json_depth} levels"
    assert error.place == f"{PLACE}:2:{LIMITS.json_depth + 1}"


def test_brackets_in_strings_are_no_depth():
    text = json.dumps(["[{" * 100, '"[[' * 100, "\\" + "[" * 100])
    assert len(parse(text.encode(), PLACE)) == 3


def test_items_up_to_the_limit_are_read_and_one_more_is_not():
    full = "[" + ",".join("0" * (LIMITS.json_items - 1)) + "]"
    assert len(parse(full.encode(), PLACE)) == LIMITS.json_items - 1
    assert "more than 50,000 values" in refusal(full.replace("]", ",0]")).fact
    commas = json.dumps("," * 2 * LIMITS.json_items)
    assert parse(commas.encode(), PLACE) == "," * 2 * LIMITS.json_items


def test_a_duplicate_inside_a_value_that_a_duplicate_hides_is_still_refused():
    assert refusal('{"a": {"b": 1, "b": 2}, "a": 3}').place == PLACE


def test_size_up_to_the_limit_is_read_and_one_byte_more_is_not(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b" " * LIMITS.manifest_bytes)
    assert len(strictjson.read_bytes(path, PLACE)) == LIMITS.manifest_bytes
    path.write_bytes(b" " * (LIMITS.manifest_bytes + 1))
    with pytest.raises(ManifestError, match=r"is larger than 1,048,576 bytes"):
        read(path, PLACE)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ManifestError, match="is not a regular file"):
        read(tmp_path / "pipe.json", PLACE)
    with pytest.raises(ManifestError, match="is not a regular file"):
        read(tmp_path, PLACE)
    with pytest.raises(ManifestError, match=r"cannot be read .No such file or directory."):
        read(tmp_path / "none.json", PLACE)


@given(VALUES)
def test_canonical_is_one_spelling(value):
    text = canonical(value)
    assert text.isascii()
    assert json.loads(text) == value
    if isinstance(value, dict):
        assert canonical(dict(reversed(value.items()))) == text


def test_canonical_is_compact_and_refuses_nan():
    assert canonical({"b": [1, 2.5], "a": "é"}) == b'{"a":"\\u00e9","b":[1,2.5]}'
    with pytest.raises(ValueError, match="JSON"):
        canonical(math.nan)


def test_pointers_follow_rfc_6901():
    assert pointer(()) == ""
    assert pointer(("a/b", 0, "m~n", "")) == "/a~1b/0/m~0n/"
    assert at(PLACE, ()) == PLACE
    assert at(PLACE, ("a", 1)) == f"{PLACE}#/a/1"


@given(VALUES)
def test_every_pointer_leads_to_its_value(value):
    for steps, child in walk(value):
        found = value
        for token in pointer(steps).split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            found = found[int(key)] if isinstance(found, list) else found[key]
        assert found is child


@given(st.text())
def test_messages_show_any_text_on_one_printable_line(text):
    assert shown(text).isprintable()
    assert quote(text).isprintable()
    assert at(PLACE, (text,)).isprintable()
    assert len(at(PLACE, (text * 50,))) < 1200


def test_text_that_steers_a_terminal_is_escaped():
    assert quote("\x1b[31m\x9b‮\x7f") == '"\\u001b[31m\\u009b\\u202e\\u007f"'
    assert at(PLACE, ("\x1b]0;x\x07",)) == f"{PLACE}#/%1B]0;x%07"
    assert shown("a" * 100) == "a" * 79 + "…"
    assert closest("name\x1b", ["name\x1b"]) == ""
    assert closest("nane", ["name", "other"]) == 'Did you mean "name"?'
    assert closest("zzzz", ["name"]) == ""
