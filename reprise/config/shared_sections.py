"""Sections of params.yaml that several stages read."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from reprise.config.drift import SECTION as DRIFT
from reprise.config.drift import DriftParams
from reprise.config.params import ImageParams, StrictModel, meaning, parse
from reprise.config.stores import FarParams


class CacheParams(StrictModel):
    """Caches of images, local features and fetched shards. No result depends on them: they run no stage again."""

    max_bytes: Annotated[
        int,
        Field(ge=0, le=1 << 50),
        meaning(
            "Decoded images take at most this much of the disk, and local features as much again; what is larger is "
            "computed on the way. 0 keeps none.",
            "bytes",
        ),
    ] = 4 << 30
    memory_bytes: Annotated[
        int,
        Field(ge=0, le=1 << 50),
        meaning(
            "Decoded images or local features of up to this size are read into memory; more are mapped from the disk.",
            "bytes",
        ),
    ] = 512 << 20
    far: Annotated[FarParams, meaning("Shards that lie in a store are read in this way.")] = FarParams()

    @property
    def bounds(self) -> dict[str, Any]:
        """The bounds of decoded images, as `open_decoded` takes them."""
        return {"max_bytes": self.max_bytes, "memory_bytes": self.memory_bytes}


class StoredParams(StrictModel):
    """The part of the section `shard` that holds for images from elsewhere too (`shifts`)."""

    max_side: Annotated[
        int,
        Field(ge=8, le=8192),
        meaning("Images with a longer side are scaled down to it and stored without loss.", "pixels"),
    ] = 512


DEFAULT_CACHE = CacheParams()
SHARED_SECTIONS: dict[str, type[StrictModel]] = {"image": ImageParams, "cache": CacheParams, DRIFT: DriftParams}
OPTIONAL_SECTIONS = ("cache", DRIFT)  # their defaults hold where params.yaml leaves them out


def cache_params(raw: dict[str, Any]) -> CacheParams:
    """Return the section `cache` of params.yaml, or its defaults where there is none."""
    return parse(CacheParams, raw.get("cache", {}), "cache")


def stored_params(raw: dict[str, Any]) -> StoredParams:
    """Return what the section `shard` of params.yaml says of each image."""
    known = {name: value for name, value in (raw.get("shard") or {}).items() if name in StoredParams.model_fields}
    return parse(StoredParams, known, "shard")
