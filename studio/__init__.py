VERSION = "0.1.0"
"""As in pyproject.toml; every answer of the REST API bears it."""
