"""`doit coreml PATH`: evaluate any Core ML package on given inputs; needs no project, no manifest and no Mac."""

from __future__ import annotations

import getopt
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doit.cmd_base import Command
from doit.cmdparse import CmdParseError

from modelbuild.equivalence import demand
from modelbuild.errors import CommandError, ModelbuildError, did_you_mean
from modelbuild.report.sentences import red_of
from modelbuild.view import silence
from modelbuild.wording import printable

if TYPE_CHECKING:
    from modelbuild.equivalence.verdict import Verdict
    from modelbuild.runtimes.coreml.standalone import Evaluated

SUMS = ("float32", "float16")


def _option(name: str, help_: str, kind: Any = str, default: Any = "", short: str = "") -> dict[str, Any]:
    return {"name": name, "short": short, "long": name, "type": kind, "default": default, "help": help_}


class CoreML(Command):  # type: ignore[misc]  # doit is untyped
    name = "coreml"
    doc_purpose = "evaluate an .mlpackage or .mlmodel on given inputs, on any machine; exit 1 when it is off"
    doc_usage = "PATH --inputs X.npz [--output Y.npz] [--against Z.npz]"
    doc_description = None
    cmd_options = (
        _option("inputs", "arrays by the names of the package's inputs (numpy.savez)"),
        _option("output", "where to write the outputs, and what --watch names, as .npz"),
        _option("against", "arrays to compare the outputs with, by name"),
        _option(
            "map", "OURS=THEIRS: the output OURS is called THEIRS in --against; may be repeated", list, []
        ),
        _option(
            "tolerance", "METRIC=LIMIT in place of the derived ones (max_abs=1e-4); may be repeated", list, []
        ),
        _option("sums", f"how float16 is added up: {' or '.join(SUMS)}", str, SUMS[0]),
        _option("watch", "a value inside the program to write with the outputs; may be repeated", list, []),
        _option("function", "which function of the program; its default one unless told"),
    )

    def parse_execute(self, in_args: list[str]) -> Any:
        """Take the words as they were typed: doit keeps NAME=VALUE among them, and wants options first."""
        words = sys.argv[sys.argv.index(self.name) + 1 :] if self.name in sys.argv else in_args
        return super().parse_execute(_options_first(words))

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Evaluate, write, compare; an error is a line and an exit code."""
        try:
            return _perform(opt_values, pos_args)
        except ModelbuildError as error:
            sys.stderr.write(f"ERROR: {error}\n")
            return error.exit_code
        except BrokenPipeError:  # `doit coreml ... | head`
            silence(sys.stdout)
            return 0


def _options_first(words: list[str]) -> list[str]:
    names = [f"{option['long']}=" for option in CoreML.cmd_options]
    try:
        options, rest = getopt.gnu_getopt(words, "", names)
    except getopt.GetoptError as error:
        raise CmdParseError(f"doit coreml: {error}. `doit help coreml` lists the options.") from error
    return [*(f"{name}={value}" for name, value in options), *rest]


def _perform(given: Mapping[str, Any], paths: Sequence[str]) -> int:
    if len(paths) != 1 or not given["inputs"]:
        usage = f"Write `doit coreml {CoreML.doc_usage}`."
        raise CommandError("doit coreml", "one package and its --inputs are needed", usage)
    if given["sums"] not in SUMS:
        raise CommandError(
            "--sums", f'"{given["sums"]}" is no way to add up', did_you_mean(given["sums"], [*SUMS])
        )
    names, asked = _pairs(given["map"], "--map"), _demand(_pairs(given["tolerance"], "--tolerance"))
    if (names or asked.tolerance) and not given["against"]:
        raise CommandError(
            "doit coreml", "--map and --tolerance go with --against", "Give the arrays to compare with."
        )

    from modelbuild.quiet import quietly

    with quietly():
        from modelbuild.runtimes.coreml import standalone

    inputs = standalone.arrays(Path(given["inputs"]))
    others = standalone.arrays(Path(given["against"])) if given["against"] else None
    path, watch = Path(paths[0]), given["watch"]
    _refuse_output(given)
    done = standalone.evaluated(path, inputs, given["sums"], watch, given["function"])
    _say(_summary(done))
    if given["output"]:
        standalone.write(Path(given["output"]), done)
        _say([f"wrote {given['output']}"])
    if others is None:
        return 0
    return _judge(standalone.compared(done, others, names, asked))


def _refuse_output(given: Mapping[str, Any]) -> None:
    """Raises CommandError for an output that would overwrite what is read, or has no folder to go to."""
    output = given["output"] and Path(given["output"]).resolve()
    if output and output in {Path(given[name]).resolve() for name in ("inputs", "against") if given[name]}:
        raise CommandError(given["output"], "is read and would be overwritten", "Give --output another name.")
    if output and not output.parent.is_dir():
        raise CommandError(given["output"], "cannot be written: there is no such folder", "Make it first.")


def _pairs(words: Sequence[str], option: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for (left, _, right), word in zip(pairs, words, strict=True):
        if not left or not right:
            raise CommandError(f"{option} {word}", "is not of the form NAME=VALUE", "")
    return {left: right for left, _, right in pairs}


def _demand(limits: Mapping[str, str]) -> demand.RuntimeDemand:
    """The limits on the command line, checked as those of a manifest are; none: derived ones."""
    if not limits:
        return demand.RuntimeDemand(None, place="--tolerance")
    numbers: dict[str, float] = {}
    for metric, text in limits.items():
        try:
            numbers[metric] = float(text)
        except ValueError:
            raise CommandError(f"--tolerance {metric}={text}", f'"{text}" is not a number', "") from None
    return demand.runtime({"tolerance": numbers}, "--tolerance")


def _summary(done: Evaluated) -> Iterator[str]:
    from modelbuild.runtimes.coreml.evaluator import program

    kinds = [each.type for each in program.operations(done.function.body) if each.type != "const"]
    sums = f", {done.sums} sums" if done.half else ""
    about = f"{len(kinds)} operations of {len({*kinds})} kinds, interpreted{sums}"
    yield f"{done.package.path.name}: ML Program, {about}"
    for name, array in {**done.watched, **done.outputs}.items():
        yield f"  {name}  {array.dtype}{list(array.shape)}{_figures(array)}"


def _figures(array: Any) -> str:
    if array.dtype.kind not in "fiub" or not array.size:
        return f"  {array}"
    import numpy as np

    values = array.astype(np.float64)
    finite = values[np.isfinite(values)]
    bad = f"  NOT FINITE: {values.size - finite.size}" if finite.size < values.size else ""
    if not finite.size:
        return bad
    return f"  min {finite.min():.6g}  max {finite.max():.6g}  mean {finite.mean():.6g}{bad}"


def _judge(verdicts: Sequence[Verdict]) -> int:
    judged = [row for row in verdicts if not row.ok or row.limit is not None]
    red = [row for row in judged if not row.ok]
    for row in verdicts:
        word = "RED  " if not row.ok else "holds" if row.limit is not None else "     "
        _say([f"  {word}  {row.output or row.target}  {row.detail}"])
    _say([red_of(len(red), len(judged)) if red else "all hold"])
    return 1 if red else 0


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{printable(line)}\n")
