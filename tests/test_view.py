import io
import threading

import pytest

from modelbuild import view as views
from modelbuild.examine import Outcome
from modelbuild.view import View, figures, totals


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(views.time, "monotonic", lambda: now[0])
    return now


def outcome(state="built", name="m:a", seconds=1.5, reason="first build", error=""):
    return Outcome(name, state, "k", "d", seconds, reason, error)


def lines(out):
    return out.getvalue().splitlines()


def test_a_finished_target_is_one_plain_line():
    out = io.StringIO()
    view = View(out, ["m:a", "m:longer"])
    view.done(outcome())
    view.done(outcome("up-to-date", "m:longer", reason=""))
    view.done(outcome("failed", seconds=130.0, reason="code changed: x"))
    assert lines(out) == [
        "m:a       built         1.50 s  first build",
        "m:longer  up to date",
        "m:a       failed       2.2 min  code changed: x",
    ]


def test_progress_is_said_every_few_seconds_and_not_more(clock):
    out = io.StringIO()
    view = View(out, ["m:a"])
    view.start("m:a")
    for n in range(1, 97):
        clock[0] += 0.125
        view.step("m:a", n, 96, {"loss": 1 / n})
    assert lines(out) == [
        "m:a  40/96  loss 0.025  about 7 s left",
        "m:a  80/96  loss 0.0125  about 2 s left",
    ]


def shown(clock, *steps):
    """What is said of steps (seconds later, done, total)."""
    out = io.StringIO()
    view = View(out, ["m:a"])
    view.start("m:a")
    for seconds, done, total in steps:
        clock[0] += seconds
        view.step("m:a", done, total, {})
    return lines(out)


def test_the_time_left_is_that_of_the_steps_and_not_of_what_came_before_them(clock):
    assert shown(clock, (4, 0, 100), (10, 20, 100)) == ["m:a  20/100  about 40 s left"]


def test_a_training_that_goes_on_counts_its_own_steps_alone(clock):
    assert shown(clock, (0, 500, 600), (10, 520, 600)) == ["m:a  520/600  about 40 s left"]


@pytest.mark.parametrize(
    ("seconds", "total", "words"),
    [
        (10, 12, "about 110 s left"),
        (10, 13, "about 2 min left"),
        (10, 720, "about 120 min left"),
        (10, 721, "about 2.0 h left"),
        (100, 3601, "about 100.0 h left"),
    ],
)
def test_the_time_left_has_a_fitting_unit(clock, seconds, total, words):
    assert shown(clock, (0, 0, total), (seconds, 1, total)) == [f"m:a  1/{total}  {words}"]


def test_there_is_no_time_left_to_tell_at_the_first_step_and_at_the_last(clock):
    assert shown(clock, (6, 1, 9), (6, 9, 9)) == ["m:a  1/9", "m:a  9/9"]


def test_a_target_that_runs_again_is_timed_anew(clock):
    out = io.StringIO()
    view = View(out, ["m:a"])
    for pace in (1, 6):
        view.start("m:a")
        view.step("m:a", 0, 10, {})
        clock[0] += pace
        view.step("m:a", 1, 10, {})
        view.done(outcome())
    assert [line for line in lines(out) if "left" in line] == ["m:a  1/10  about 54 s left"]


def test_every_target_has_its_own_clock(clock):
    out = io.StringIO()
    view = View(out, ["m:a", "m:b"])
    view.start("m:a")
    clock[0] += 4
    view.start("m:b")
    clock[0] += 2
    view.step("m:a", 1, 2, {})
    view.step("m:b", 1, 2, {})
    assert lines(out) == ["m:a  1/2"]


def test_a_step_of_a_target_that_is_not_running_says_nothing(clock):
    out = io.StringIO()
    view = View(out, ["m:a"])
    view.start("m:a")
    view.done(outcome())
    clock[0] += 60
    view.step("m:a", 1, 2, {})
    view.step("m:never", 1, 2, {})
    assert len(lines(out)) == 1


@pytest.mark.parametrize(("state", "colour"), [("built", "32"), ("restored", "36"), ("failed", "31")])
def test_colours_are_for_terminals(state, colour):
    for out, coloured in [(io.StringIO(), False), (Terminal(), True)]:
        view = View(out, ["m:a"])
        view.done(outcome(state))
        view.close()
        assert (f"\x1b[{colour}m" in out.getvalue()) == coloured


def test_a_log_holds_no_control_characters(clock):
    out = io.StringIO()
    view = View(out, ["m:a"])
    view.start("m:a")
    clock[0] += 10
    view.step("m:a", 1, 2, {"loss": 0.5})
    view.done(outcome())
    view.line("m:gate", "red")
    view.say("last words")
    view.close()
    assert all(c == "\n" or c.isprintable() for c in out.getvalue())


def test_a_terminal_shows_bars_while_something_runs():
    out = Terminal()
    view = View(out, ["m:a"])
    view.start("m:a")
    view.step("m:a", 1, 2, {"loss": 0.5})
    view.step("m:unknown", 1, 2, {})
    view.done(outcome())
    view.say("words [with] brackets [/]")
    view.close()
    view.say("after")
    assert "first build" in out.getvalue()
    assert "words [with] brackets [/]" in out.getvalue()
    assert out.getvalue().endswith("after\n")


HOSTILE = "a\x1b[2J\x1b]0;title\x07b\rc\x9b31md\ne\u202ef"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("running", [False, True])
def test_a_hostile_reason_cannot_steer_the_terminal(terminal, running):
    """A reason may quote a key of a manifest or a file's name, whoever wrote them."""
    plain, hostile = (Terminal() if terminal else io.StringIO() for _ in range(2))
    for out, reason in [(plain, "a b c d e f"), (hostile, HOSTILE)]:
        view = View(out, ["m:a"])
        if running:
            view.start("m:a")
        view.done(outcome(reason=reason))
        view.close()
    text = hostile.getvalue()
    for bad in ("\x1b[2J", "\x1b]", "\x07", "\rc", "\x9b", "d\ne", "\u202e"):
        assert bad not in text
    assert "a" in text.rpartition("built")[2]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_hostile_error_cannot_steer_the_terminal_and_keeps_its_lines(terminal):
    out = Terminal() if terminal else io.StringIO()
    view = View(out, ["m:a"])
    view.say("one\ntwo" + HOSTILE)
    assert out.getvalue().startswith("one\ntwo")
    for bad in ("\x1b", "\x07", "\r", "\x9b", "\u202e"):
        assert bad not in out.getvalue()


def test_figures_are_short():
    assert figures({"loss": 0.123456, "step": 12}) == "  loss 0.1235  step 12"
    assert figures({}) == ""


@pytest.mark.parametrize(
    ("states", "seconds", "words"),
    [
        ([], 0.5, "0 targets: nothing to do (0.50 s)"),
        (["built"], 9.999, "1 target: 1 built (10.00 s)"),
        (["up-to-date", "up-to-date"], 11.0, "2 targets: 2 up to date (11.0 s)"),
        (
            ["failed", "built", "restored", "up-to-date"],
            150,
            "4 targets: 1 built, 1 restored, 1 up to date, 1 failed (2.5 min)",
        ),
    ],
)
def test_totals(states, seconds, words):
    assert totals([outcome(state) for state in states], seconds) == words


def test_threads_share_a_view():
    out = io.StringIO()
    names = [f"m:{n}" for n in range(8)]
    view = View(out, names)

    def work(name):
        for n in range(50):
            view.start(name)
            view.step(name, n, 50, {})
            view.done(outcome(name=name))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(lines(out)) == {f"{name}  built         1.50 s  first build" for name in names}
    assert len(lines(out)) == 400
