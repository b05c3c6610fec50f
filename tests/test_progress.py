import pytest

from modelbuild import progress


@pytest.fixture(autouse=True)
def silent_again():
    yield
    progress.set_sink(progress._nowhere)


def test_a_step_without_a_build_goes_nowhere():
    progress.step(1, 2, loss=0.5)


def test_a_step_reaches_the_sink_with_its_figures():
    seen = []
    progress.set_sink(lambda *step: seen.append(step))
    progress.step(3, 10, loss=0.5, accuracy=1)
    progress.step(4, 10)
    assert seen == [(3, 10, {"loss": 0.5, "accuracy": 1}), (4, 10, {})]
