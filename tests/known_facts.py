"""Facts for the digits of `tests.workspace`, in the form that ingest writes: labels and given facts of every kind."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reprise.artifacts.facts.sides import FILE, TAR, read_sides, write_sides
from reprise.artifacts.facts.table import Facts, objects, write_facts
from reprise.artifacts.layout import ALL_FACTS, INGEST, SHARDS, run_facts
from reprise.artifacts.manifest import read_manifest
from reprise.config.facts import SIDES, Fact
from reprise.media.image.sides import encode_side
from reprise.storage import ustar
from stages.facts.gather import facts_of_run, gather
from stages.facts.params import FactsParams
from stages.shard.params import ShardParams
from stages.shard.write import write_shards

DECLARED = (
    Fact("angle", "number"),
    Fact("bold", "flag"),
    Fact("writer", "word"),
    Fact("remark", "caption"),
    Fact("ink", "mask"),
    Fact("frame", "boxes"),
    Fact("caption", "caption", "given"),
    Fact("pose", "pose", "given"),
    Fact("motion", "flow", "given"),
    Fact("mask", "mask", "given"),
)


def write_known_facts(seed: int = 0, declared: Sequence[Fact] = DECLARED, given_seed: int = 0) -> None:
    """Write facts of all images below data/ingest, and pack the shards again with what lies beside the images.

    Labels follow from `seed`, what is given from `given_seed`.
    """
    keys = sorted(read_manifest(columns=["key"])["key"].to_pylist())
    labels, given = np.random.default_rng(seed), np.random.default_rng(given_seed)
    n = len(keys)
    columns = {
        "angle": labels.normal(size=n),
        "bold": labels.integers(0, 2, n).astype(float),
        "writer": objects([f"writer {i}" for i in labels.integers(0, 5, n)]),
    }
    captions = {
        "remark": objects([(f"remark {i}",) for i in labels.integers(0, 9, n)]),
        "caption": objects([(f"a picture of number {i}",) for i in given.integers(0, 9, n)]),
    }
    wanted = {fact.name for fact in declared}
    write_facts(INGEST, Facts(tuple(declared), objects(keys), columns, captions).chosen(wanted))
    sides, tar = [], b""
    for key in keys:
        pose = given.normal(size=4)
        values = {
            "ink": labels.integers(0, 2, (8, 8)).astype(np.uint8),
            "frame": [(0, 0, *labels.integers(1, 9, 2).tolist())],
            "pose": (pose / np.linalg.norm(pose)).tolist(),
            "motion": given.normal(size=(8, 8, 2)).astype(np.float32),
            "mask": given.integers(0, 3, (8, 8)).astype(np.uint8),
            "other": labels.integers(0, 3, (8, 8)).astype(np.uint8),
        }
        for fact in (fact for fact in declared if fact.kind in SIDES):
            data = encode_side(fact.kind, values[fact.name], 8, 8, key)
            row = {"key": key, "fact": fact.name, "kind": fact.kind, "shard": TAR, "offset": len(tar) + ustar.BLOCK}
            row |= {"bytes": len(data), "ext": SIDES[fact.kind], "sha256": hashlib.sha256(data).hexdigest()}
            sides.append(row)
            tar += ustar.member(f"{key}.{fact.name}.{SIDES[fact.kind]}", data)
    (INGEST / TAR).write_bytes(tar + ustar.END)
    write_sides(INGEST / FILE, sides)
    for path in SHARDS.iterdir():
        path.unlink()
    packed = ShardParams(max_shard_bytes=1 << 20, max_side=64)
    write_shards(read_manifest(), packed, SHARDS, 1, sides=read_sides(INGEST / FILE))


def write_facts_of_run(run: str, reads: Sequence[str]) -> None:
    """Write data/facts as the stage does for one run whose method reads these facts."""
    facts, _ = gather(FactsParams(), Path("targets.csv"))
    for folder, chosen in ((ALL_FACTS, facts), (run_facts(run), facts_of_run(facts, reads))):
        folder.mkdir(parents=True, exist_ok=True)
        write_facts(folder, chosen)
