"""Named recipes of distillation, and how what a manifest says beside one is laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelbuild.errors import RecipeError, did_you_mean

# What an entry says whatever its kind; an entry of another kind takes only that over.
OF_EVERY_KIND = ("weight", "map")

# distilbert: Sanh, Debut, Chaumond and Wolf, "DistilBERT", arXiv:1910.01108, section 3: a linear combination of the
# soft loss, the task loss and a cosine loss that aligns the directions of the hidden states, from a student that
# starts as every second layer of the teacher. The weights are those of the command in their published code
# (research_projects/distillation of huggingface/transformers), 5 : 2 : 1, scaled to add up to 1 as the defaults do.
# The temperature of 2, and the cosine loss on the last layer alone, are that code's too.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "distilbert": {
        "task": {"weight": 2 / 8},
        "soft": {"kind": "kl", "weight": 5 / 8, "temperature": 2},
        "layers": {"kind": "cosine", "weight": 1 / 8, "map": "last"},
        "initial": {"map": "even"},
    },
}


def expanded(distil: Mapping[str, Any]) -> dict[str, Any]:
    """`distil` of a manifest with its "preset" written out; what it says itself wins, at every depth.

    An entry that names another kind of loss than the preset keeps the preset's weight, and none of the options of
    its kind. Raises RecipeError for a preset that is not known.
    """
    given = {name: value for name, value in distil.items() if name != "preset"}
    if "preset" not in distil:
        return given
    name = distil["preset"]
    if name not in PRESETS:
        raise RecipeError(
            "distil.preset", f'there is no preset "{name}"', did_you_mean(str(name), list(PRESETS))
        )
    return _over(PRESETS[name], given)


def _over(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    if given.get("kind", preset.get("kind")) != preset.get("kind"):
        preset = {name: value for name, value in preset.items() if name in OF_EVERY_KIND}
    return {name: _merged(preset, given, name) for name in dict.fromkeys((*preset, *given))}


def _merged(preset: Mapping[str, Any], given: Mapping[str, Any], name: str) -> Any:
    if name not in given:
        value = preset[name]
        return _over(value, {}) if isinstance(value, Mapping) else value
    if isinstance(given[name], Mapping) and isinstance(preset.get(name), Mapping):
        return _over(preset[name], given[name])
    return given[name]
