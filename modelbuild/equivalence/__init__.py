"""Whether artefacts behave the same: metrics, what counts as comparable, tolerances, gates, verdicts.

Read in the order of the data: `demand` (what a gate asks for), `compare` (may these arrays be compared at
all), `metrics` (by how much they differ), `tolerance` (how much is allowed), `gate` and `quality` (the
verdicts on runtimes, and on the student), `verdict` (the record).
"""
