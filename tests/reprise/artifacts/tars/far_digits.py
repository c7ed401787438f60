"""A workspace of digits in many small tars, here or in a store: the same images and the same index."""

from __future__ import annotations

import shutil
from pathlib import Path

from reprise.artifacts.layout import SHARDS
from reprise.artifacts.manifest import read_manifest
from reprise.config.stores import FarParams
from reprise.config.texts.addresses import parse_address
from stages.shard.params import ShardParams
from stages.shard.send import Sender, sending
from stages.shard.write import write_shards

TAR_BYTES = 20_000  # below what params.yaml may say, so that few images fill many tars


def packed(store: str | None = None, tar_bytes: int = TAR_BYTES, far: FarParams | None = None) -> None:
    """Write data/shards of the current workspace again, with its tars below an address; None keeps them there."""
    shutil.rmtree(SHARDS, ignore_errors=True)
    Path(SHARDS).mkdir(parents=True)
    work = Path("work-of-shard")
    work.mkdir(exist_ok=True)
    params = ShardParams.model_construct(max_shard_bytes=tar_bytes, max_side=64, store=store)
    with sending(work, store, far or FarParams()) as sender:
        write_shards(read_manifest(), params, Path(SHARDS), 1, work, (), sender)


def sender_to(store: str, work: Path) -> Sender:
    """Make the sender of a folder."""
    return Sender(work, parse_address(store), FarParams(attempts=2))
