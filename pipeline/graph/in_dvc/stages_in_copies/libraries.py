"""The libraries that most stages need, loaded once before the process is copied (`fork`).

A stage spends up to four seconds of a processor on importing them. Reprise's own modules are never loaded ahead: a
stage runs the code that lies in the project when it starts.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress

from reprise.runtime.entry import THREAD_VARIABLES

_COMPILER = "torch._dynamo"  # loaded by every training: torch's optimisers need it
LIBRARIES = ("torch", "numpy", "pyarrow.parquet", "pandas", "PIL.Image", "cv2", _COMPILER)
_READ_WHEN_LOADED = re.compile(
    "PYTHON|LD_|MALLOC_|GLIBC_|JE_|OMP_|GOMP_|KMP_|TBB_|MKL_|OPENBLAS_|NUMEXPR_"
    "|TORCH|PYTORCH_|ATEN_|ONEDNN_|DNNL_|ARROW_|OPENCV_"
)  # environment variables that begin like this


def load_next(rest: list[str]) -> None:
    """Import one library, in the environment that a stage with one thread would give it.

    Args:
        rest: the libraries to load; the first one is taken out. A library that cannot be loaded is left to the stage,
            which says what is missing.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    name = rest.pop(0)
    try:
        with suppress(Exception):
            importlib.import_module(name)
    finally:
        for variable, value in before.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value
    if name == "torch" and _COMPILER in rest and _for_accelerators():
        rest.remove(_COMPILER)  # it may ask for devices; a process that has done so leaves its copies none
    if not rest:
        gc.collect()
        gc.freeze()  # what is loaded stays shared between the copies


def _for_accelerators() -> bool:
    """Tell whether the torch that has been loaded was built for other devices than the CPU."""
    version = getattr(sys.modules.get("torch"), "version", None)
    return any(getattr(version, name, None) for name in ("cuda", "hip", "xpu"))


def one_thread(environment: Mapping[str, str]) -> bool:
    """Tell whether a stage with this environment computes with one thread, as it does unless the user asks for more.

    With more, libraries start threads when they are loaded, and a process with threads cannot be copied.
    """
    asked = environment.get("REPRISE_THREADS", "")
    default = str(max(1, int(asked))) if asked.isdigit() else "1"
    return all(environment.get(name, default) == "1" for name in THREAD_VARIABLES)


def read_when_loaded(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that libraries may read when they are loaded, without those of threads."""
    return {
        name: value
        for name, value in environment.items()
        if _READ_WHEN_LOADED.match(name) and name not in THREAD_VARIABLES
    }
