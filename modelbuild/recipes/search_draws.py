"""Drawing candidates from ranges with Optuna: blindly, or by what was found of those drawn before.

A draw depends on its own seed and, where it is a proposal, on the history it is given: one more leaves the others as
they are. Nothing is kept on disk but what is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from modelbuild.errors import RecipeError
from modelbuild.recipes import search

Ranges = Mapping[str, Mapping[str, Any]]
Drawn = dict[str, Any]

HISTORY = "history.json"
STARTUP = 2  # trials before TPE can tell good from bad


def describe(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Draw a candidate and write its candidate.json, as `search.write` does.

    `params`: also "ranges", and "draw" with "seed", "cycle" and "index". Role history: what is known of those drawn
    before, where it is a proposal.
    """
    seed = [params["draw"][name] for name in ("seed", "cycle", "index")]
    if "history" in inputs:
        told = json.loads((inputs["history"] / HISTORY).read_text(encoding="utf-8"))
        drawn = propose(params["ranges"], seed, told["trials"])
    else:
        drawn = draw(params["ranges"], seed)
    search.write(inputs, params, drawn, out_dir)


def draw(ranges: Ranges, seed: Sequence[int]) -> Drawn:
    """One value a range, by its path. Raises RecipeError without Optuna, or for a range that is none."""
    optuna = _optuna()
    return _ask(optuna, optuna.samplers.RandomSampler(seed=_seed(seed)), ranges, [], ["minimize"])


def propose(ranges: Ranges, seed: Sequence[int], trials: Sequence[Mapping[str, Any]]) -> Drawn:
    """One value a range, where `trials` say that small students near the gates are.

    A trial has "drawn", "parameters" and "shortfall"; a number that it has not counts as worse than all there are.
    Source: Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (2011), section 4; for two objectives Ozaki
    et al., "Multiobjective Tree-Structured Parzen Estimator" (2022). Raises RecipeError as `draw` does.
    """
    optuna = _optuna()
    kinds, scores = _distributions(optuna, ranges), _scores(trials)
    known = [
        optuna.trial.create_trial(params=_indices(trial["drawn"], ranges), distributions=kinds, values=values)
        for trial, values in zip(trials, scores, strict=True)
    ]
    sampler = optuna.samplers.TPESampler(seed=_seed(seed), n_startup_trials=STARTUP)
    return _ask(optuna, sampler, ranges, known, ["minimize", "minimize"])


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        fact = "candidates are drawn with Optuna, which is not installed"
        raise RecipeError("search", fact, "Run: pip install 'modelbuild[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _seed(parts: Sequence[int]) -> int:
    """One number of several, such that neighbours have nothing to do with each other."""
    import numpy as np

    return int(np.random.SeedSequence(list(parts)).generate_state(1)[0])


def _ask(optuna: Any, sampler: Any, ranges: Ranges, known: list[Any], directions: list[str]) -> Drawn:
    study = optuna.create_study(sampler=sampler, directions=directions)
    study.add_trials(known)
    found = study.ask(_distributions(optuna, ranges)).params
    return {path: _value(ranges[path], found[path]) for path in sorted(ranges)}


def _distributions(optuna: Any, ranges: Ranges) -> dict[str, Any]:
    """Sorted, as the order decides which random number is whose."""
    return {path: _distribution(optuna.distributions, path, ranges[path]) for path in sorted(ranges)}


def _distribution(kinds: Any, path: str, each: Mapping[str, Any]) -> Any:
    if "choices" in each:
        return kinds.CategoricalDistribution(list(range(len(each["choices"]))))
    low, high, step, log = each["low"], each["high"], each.get("step"), each.get("log", False)
    if log and step is not None:
        raise RecipeError(f"search/ranges/{path}", 'there is "step" beside "log"', "Leave one of them out.")
    if step is not None:  # Optuna warns where steps do not end at `high`
        count = (Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step))
        high = type(high)(Decimal(str(low)) + count * Decimal(str(step)))
    if all(isinstance(value, int) for value in (low, high, step or 1)):
        return kinds.IntDistribution(low, high, log=log, step=step or 1)
    return kinds.FloatDistribution(low, high, log=log, step=step)


def _value(each: Mapping[str, Any], found: Any) -> Any:
    return each["choices"][found] if "choices" in each else found


def _indices(drawn: Mapping[str, Any], ranges: Ranges) -> Drawn:
    """What was drawn, a choice by where it stands."""
    return {path: _index(ranges[path], value) for path, value in sorted(drawn.items())}


def _index(each: Mapping[str, Any], value: Any) -> Any:
    if "choices" not in each:
        return value
    same = (type(other) is type(value) and other == value for other in each["choices"])
    return [*same].index(True)


def _scores(trials: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    columns = [[trial[name] for trial in trials] for name in ("parameters", "shortfall")]
    return [list(row) for row in zip(*map(_filled, columns), strict=True)]


def _filled(values: list[float | None]) -> list[float]:
    worst = max((value for value in values if value is not None), default=0.0) + 1.0
    return [worst if value is None else float(value) for value in values]
