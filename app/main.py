"""Making a gateway out of a configuration. Importing this module does nothing else."""

from __future__ import annotations

from app.api.front import AsgiApp
from app.config.load import LoadedConfig
from app.wiring import build


def create_app(loaded: LoadedConfig) -> AsgiApp:
    """The public application alone, for any ASGI server; its lifespan starts and stops the gateway.

    Raises: ConfigError when a backend cannot be built as configured.
    """
    return build(loaded).app
