"""The flows for Prefect, where Reprise is installed: `entrypoint: reprise.flows.reproduce` in prefect.yaml.

They work in the current folder, which must be a project. `from reprise.flows import reproduce` gives the same flows to
flows of your own.
"""

import importlib

from reprise.start import find_own_packages

find_own_packages()
_entrypoints = importlib.import_module("pipeline.flows.entrypoints")

reproduce = _entrypoints.reproduce
refresh = _entrypoints.refresh
sweep = _entrypoints.sweep
