"""doit commands: `doit plan`, `doit why TARGET`, `doit status`, ... one a file, registered as doit plugins."""
