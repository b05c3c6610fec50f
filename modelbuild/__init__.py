"""modelbuild: a declarative build system for model artefacts."""
