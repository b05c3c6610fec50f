"""Smaller weights through coremltools.optimize: linear quantisation, palettes, pruning, or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from modelbuild.callables import in_words
from modelbuild.errors import RecipeError
from modelbuild.quiet import quietly
from modelbuild.runtimes.coreml.options import NAME


def compressed(package: Any, steps: Sequence[Mapping[str, Any]]) -> Any:
    """The coremltools MLModel `package` after `steps`, each {"kind": "linear", "palette" or "prune", ...}.

    Raises RecipeError when coremltools refuses a step, and when a step finds no weight to compress.
    """
    for number, step in enumerate(steps):
        before = _compressions(package)
        with quietly():
            try:
                package = _KINDS[step["kind"]](package, step, [each["kind"] for each in steps[:number]])
            except Exception as error:
                fact = f'compression step {number} ("{step["kind"]}") failed: {in_words(error)}'
                raise RecipeError(NAME, fact) from error
        if _compressions(package) == before:
            fact = f'compression step {number} ("{step["kind"]}") found no weight of {step["min_elements"]} numbers'
            raise RecipeError(NAME, fact, 'Lower its "min_elements", or leave the step out')
    return package


def _compressions(package: Any) -> int:
    """How many operations of the program unfold weights: one step adds to them, unless it finds none."""
    functions = package.get_spec().mlProgram.functions.values()
    blocks = [block for function in functions for block in function.block_specializations.values()]
    return sum(each.type.startswith("constexpr_") for block in blocks for each in block.operations)


def _linear(package: Any, step: Mapping[str, Any], before: Sequence[str]) -> Any:
    from coremltools.optimize import coreml as optimize

    about = optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric" if step["symmetric"] else "linear",
        weight_threshold=step["min_elements"],
        granularity="per_tensor" if "palette" in before else "per_channel",  # a palette has no channels
    )
    return optimize.linear_quantize_weights(
        package, optimize.OptimizationConfig(about), joint_compression=bool(before)
    )


def _palette(package: Any, step: Mapping[str, Any], before: Sequence[str]) -> Any:
    from coremltools.optimize import coreml as optimize

    about = optimize.OpPalettizerConfig(
        mode=step["mode"], nbits=step["bits"], weight_threshold=step["min_elements"]
    )
    return optimize.palettize_weights(
        package, optimize.OptimizationConfig(about), joint_compression=bool(before)
    )


def _prune(package: Any, step: Mapping[str, Any], before: Sequence[str]) -> Any:
    from coremltools.optimize import coreml as optimize

    about = optimize.OpMagnitudePrunerConfig(
        target_sparsity=step["sparsity"], weight_threshold=step["min_elements"]
    )
    return optimize.prune_weights(package, optimize.OptimizationConfig(about), joint_compression=bool(before))


_KINDS: Mapping[str, Callable[..., Any]] = {"linear": _linear, "palette": _palette, "prune": _prune}
