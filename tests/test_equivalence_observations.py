import pytest

from modelbuild.equivalence import observations

GPU, CPU = "WebGpuExecutionProvider", "CPUExecutionProvider"


def rows(**record):
    record = {"version": "1.30.0", "backend": "webgpu", "evidence": "executed", **record}
    return {row.metric: row for row in observations.rows("digits:browser", "browser", record)}


def test_nothing_is_said_of_what_is_as_usual():
    assert rows() == {}
    assert rows(placement={"a": CPU, "b": CPU}, facts={"node": "24"}) == {}


def test_rows_demand_nothing_and_say_whom_they_are_about():
    row = rows(placement={"a": GPU})["placement"]
    assert (row.ok, row.limit, row.measured) == (True, None, None)
    assert (row.target, row.platform, row.version, row.backend) == (
        "digits:browser",
        "browser",
        "1.30.0",
        "webgpu",
    )


@pytest.mark.parametrize(
    ("placement", "words"),
    [
        ({"all 9 nodes": GPU}, f"all 9 nodes ran on {GPU}"),
        ({"a": GPU, "b": GPU}, f"all 2 nodes ran on {GPU}"),
        ({"a": GPU, "b": GPU, "c": CPU}, f"2 nodes ran on {GPU}, 1 nodes ran on {CPU}: c"),
        (
            {"g": GPU, "h": GPU, **{f"n{i}": CPU for i in range(10)}},
            f"10 nodes ran on {CPU}, 2 nodes ran on {GPU}: g, h",
        ),
        (
            {**{f"g{i}": GPU for i in range(20)}, **{f"n{i}": CPU for i in range(10)}},
            f"20 nodes ran on {GPU}, 10 nodes ran on {CPU}: n0, n1, n2, n3, n4, n5, n6, n7 and 2 more",
        ),
    ],
)  # fmt: skip
def test_where_nodes_ran(placement, words):
    assert rows(placement=placement)["placement"].detail == words


def test_a_processor_that_saturates_is_said_to():
    known = {"machine": "x86_64", "flags": ["avx2"], "saturates": True}
    assert "may saturate" in rows(facts={"processor": known})["processor"].detail
    good = {"machine": "x86_64", "flags": ["avx2", "avx_vnni"], "saturates": False}
    said = rows(facts={"processor": good})["processor"].detail
    assert said == "8-bit integers on x86_64 (avx2 avx_vnni)"
    unknown = {"machine": "arm64", "flags": [], "saturates": None}
    assert rows(facts={"processor": unknown})["processor"].detail.endswith("(flags unknown)")


def test_what_the_usability_check_says_is_a_row_a_line():
    facts = {"mobile": ["NNAPI: 7 of 9 nodes", "CoreML: all"]}
    record = {"version": "1", "backend": "c", "evidence": "executed", "facts": facts}
    found = [*observations.rows("m:a", "a", record)]
    assert [(row.metric, row.detail) for row in found] == [
        ("mobile", "NNAPI: 7 of 9 nodes"),
        ("mobile", "CoreML: all"),
    ]
