"""What a source says of how its store is asked."""

from __future__ import annotations

from reprise.config.stores import StoreParams
from reprise.storage.stores.store import Settings


def settings_of(options: StoreParams) -> Settings:
    """Make settings of the options of a source."""
    return Settings(options.endpoint, options.anonymous, options.timeout, options.threads, options.attempts)
