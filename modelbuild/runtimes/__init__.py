"""One module a runtime, found by name; `base` says what a runtime is."""
