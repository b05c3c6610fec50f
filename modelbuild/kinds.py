"""The losses that a manifest can name, and the options of each: what `training.losses` has, told without torch."""

from collections.abc import Mapping

TASK: Mapping[str, tuple[str, ...]] = {"cross_entropy": (), "l1": (), "l2": (), "cosine": ()}
SOFT: Mapping[str, tuple[str, ...]] = {
    "kl": ("temperature",),
    "decoupled": ("alpha", "beta", "temperature"),
    "dist": ("beta", "gamma", "temperature"),
    "l1": (),
    "l2": (),
    "cosine": (),
}
