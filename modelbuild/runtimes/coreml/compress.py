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
        before = package.get_spec().SerializeToString(deterministic=True)
        with quietly():
            try:
                package = _KINDS[step["kind"]](package, step, joint=number > 0)
            except Exception as error:
                fact = f'compression step {number} ("{step["kind"]}") failed: {in_words(error)}'
                raise RecipeError(NAME, fact) from error
        if package.get_spec().SerializeToString(deterministic=True) == before:
            fact = f'compression step {number} ("{step["kind"]}") found no weight of {step["min_elements"]} numbers'
            raise RecipeError(NAME, fact, 'Lower its "min_elements", or leave the step out')
    return package


def _linear(package: Any, step: Mapping[str, Any], joint: bool) -> Any:
    from coremltools.optimize import coreml as optimize

    mode = "linear_symmetric" if step["symmetric"] else "linear"
    about = optimize.OpLinearQuantizerConfig(mode=mode, weight_threshold=step["min_elements"])
    return optimize.linear_quantize_weights(
        package, optimize.OptimizationConfig(about), joint_compression=joint
    )


def _palette(package: Any, step: Mapping[str, Any], joint: bool) -> Any:
    from coremltools.optimize import coreml as optimize

    about = optimize.OpPalettizerConfig(
        mode=step["mode"], nbits=step["bits"], weight_threshold=step["min_elements"]
    )
    return optimize.palettize_weights(package, optimize.OptimizationConfig(about), joint_compression=joint)


def _prune(package: Any, step: Mapping[str, Any], joint: bool) -> Any:
    from coremltools.optimize import coreml as optimize

    about = optimize.OpMagnitudePrunerConfig(
        target_sparsity=step["sparsity"], weight_threshold=step["min_elements"]
    )
    return optimize.prune_weights(package, optimize.OptimizationConfig(about), joint_compression=joint)


_KINDS: Mapping[str, Callable[..., Any]] = {"linear": _linear, "palette": _palette, "prune": _prune}
