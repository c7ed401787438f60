"""Choose how the tars of a folder of shards are read."""

from __future__ import annotations

from pathlib import Path

from reprise.artifacts.tars.far import FarTars
from reprise.artifacts.tars.local import LocalTars
from reprise.artifacts.tars.table import read_far
from reprise.config.params import PARAMS_FILE, read_yaml
from reprise.config.shared_sections import cache_params
from reprise.config.stores import FarParams


def open_tars(directory: Path, params: FarParams | None = None) -> LocalTars | FarTars:
    """Look where the tars of a folder lie.

    Args:
        directory: of the index.
        params: how stores are asked; None takes `cache.far` of the params.yaml of the project.

    Raises:
        ShardError: the table of far tars is damaged.
    """
    table = read_far(directory)
    if table is None:
        return LocalTars(directory)
    if params is None:
        params = cache_params(read_yaml()).far if Path(PARAMS_FILE).exists() else FarParams()
    return FarTars(directory, table, params)
