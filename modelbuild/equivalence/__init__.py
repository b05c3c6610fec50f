"""Whether artefacts behave the same: what may differ, what does, whose doing it is; and that the gate can fail.

Read in the order of the data: `demand` (what a gate asks for), `noise` and `tolerance` (how much is allowed and why),
`streams`, `reading` and `errors` (each output read once, all runs at a time), `compare` (may they be compared),
`metrics`, `decisions`, `sequences`, `tasks` and `intervals` (by how much they differ, and how sure that is), `pairs`,
`gate` and `quality` (the verdicts on runtimes, and on the student), `matrix` and `clusters` (all against all),
`verdict` (the record). `attribution` and `localise` say where a red one comes from; `liveness` has the faults that
must each turn the gate red.
"""
