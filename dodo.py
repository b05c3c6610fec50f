"""Every manifest under manifests/ becomes targets: `doit list --all` shows them, `doit` builds them."""

from pathlib import Path

from modelbuild.doit_tasks import configure, generate

DOIT_CONFIG = configure(Path.cwd())


def task_models():
    """Targets of every model."""
    yield from generate()
