"""Shards in a store: the bytes of local ones, and a sentence for everything that a store can do wrong."""

from __future__ import annotations

import contextlib
import gc
import json
import pickle
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reprise.artifacts.facts.sides import FILE as SIDES
from reprise.artifacts.facts.sides import Sides, write_sides
from reprise.artifacts.layout import SHARDS
from reprise.artifacts.shards import Shards, read_index
from reprise.artifacts.tars.far import CACHE, FarTars
from reprise.artifacts.tars.table import FILE, read_far
from reprise.config.errors import MachineError, RepriseError, ShardError
from reprise.config.shared_sections import CacheParams
from reprise.config.stores import FarParams
from reprise.reading.decoded import open_decoded
from reprise.storage.stores import in_order
from tests.reprise.artifacts.tars.far_digits import packed
from tests.reprise.storage.stores import web as w
from tests.reprise.storage.stores.test_bounded import held
from tests.reprise.storage.stores.web import Web, serving
from tests.workspace import make_shards

QUICK = {"attempts": 2, "timeout": 20.0, "threads": 2}  # a busy machine answers late
IMPATIENT = 0.3  # seconds, for servers that stay silent on purpose


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of digits in a folder that tests copy: `local` holds the tars, `store` too, data/shards a table."""
    folder = tmp_path_factory.mktemp("far")
    with contextlib.chdir(folder):
        make_shards()
        packed()
        shutil.copytree(SHARDS, "local")
        packed(f"file://{folder}/store")
        assert not list(Path(SHARDS).glob("*.tar"))
    return folder


@pytest.fixture
def store(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """The current folder becomes a copy of the workspace, and a web server has its tars."""
    shutil.copytree(workspace, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(in_order, "_PAUSE", 0.01)
    with serving() as web:
        web.files = {f"/{path.name}": path.read_bytes() for path in Path("store").iterdir()}
        yield web


def opened(web: Web, **options: object) -> Shards:
    return Shards.open(SHARDS, FarParams(**{**QUICK, "read_from": web.address, **options}))  # type: ignore[arg-type]


def all_bytes(shards: Shards) -> list[bytes]:
    return [shards.read(row) for row in range(len(shards))]


def test_every_image_is_the_one_of_local_tars_and_each_tar_is_fetched_once(store: Web) -> None:
    local, far = Shards.open("local"), opened(store)
    assert (local.fingerprint, local.tars.far, far.tars.far) == (far.fingerprint, False, True)
    assert len(store.files) > 5
    assert all_bytes(far) == all_bytes(local)
    far.verify()
    assert {key: count for key, count in store.asked.items() if key[0] == "GET"} == {
        ("GET", path): 1 for path in store.files
    }
    again = opened(store)
    store.files.clear()  # another process reads what is here
    assert all_bytes(again) == all_bytes(local)
    assert all((a == b).all() for a, b in zip(local.of_tar, far.of_tar, strict=True))


def test_the_folder_itself_can_be_the_store_and_params_say_how_it_is_read(store: Web) -> None:
    expected = all_bytes(Shards.open("local"))
    assert all_bytes(Shards.open()) == expected  # without params.yaml, where they were written
    shutil.rmtree(CACHE)
    Path("params.yaml").write_text(f"cache:\n  far: {{read_from: '{store.address}', max_bytes: 1048576}}\n")
    assert all_bytes(Shards.open()) == expected
    assert sum(count for (method, _), count in store.asked.items() if method == "GET") == len(store.files)


def test_shards_cross_process_boundaries(store: Web) -> None:
    shards = opened(store)
    first = shards.read(3)
    assert pickle.loads(pickle.dumps(shards)).read(3) == first


def test_facts_beside_the_images_are_read_from_far_tars_too(store: Web) -> None:
    shards = opened(store)
    stated = read_index(SHARDS).slice(0, 1).select(["key", "shard", "offset", "bytes", "sha256"]).to_pylist()[0]
    row = {**stated, "fact": "seen", "kind": "mask", "ext": "png"}
    write_sides(Path(SHARDS) / SIDES, [row])
    assert Sides(Path(SHARDS)).read(shards.keys[0], "seen") == shards.read(0)


def test_decoded_images_are_those_of_local_tars_with_a_cache_of_any_size(store: Web) -> None:
    local, largest = Shards.open("local"), max(len(data) for data in store.files.values())
    plain = open_decoded(local, local.rows(), 1, cache=Path("a"))
    for number, room in enumerate((1 << 30, max(1 << 20, largest))):
        far = opened(store, max_bytes=room)
        assert (open_decoded(far, far.rows(), 1, cache=Path(f"b{number}")).images == plain.images).all()
        assert (open_decoded(far, far.rows(), 1, max_bytes=0).resized(8) == plain.resized(8)).all()


def test_the_cache_stays_below_its_bound_whatever_order_is_read(store: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = max(len(data) for data in store.files.values())
    far, expected = opened(store), all_bytes(Shards.open("local"))
    assert isinstance(far.tars, FarTars)
    far.tars.max_bytes = far.tars._cache.max_bytes = 2 * largest
    for row in [*range(0, len(far), 7), *range(len(far) - 1, 0, -5)]:
        assert far.read(row) == expected[row]
        assert held(CACHE) <= 2 * largest  # while a thread reads ahead and makes room


def first_tar(shards: Shards) -> tuple[str, str]:
    """The name of the tar of row 0, and the path of its object."""
    table = read_far(Path(SHARDS))
    assert table is not None
    return shards.tar_names[shards.of_tar[0][0]], f"/{table.tars[shards.tar_names[shards.of_tar[0][0]]].object}"


def test_failures_that_pass_are_waited_for(store: Web) -> None:
    shards = opened(store, attempts=4)
    _, path = first_tar(shards)
    store.odd[path] = w.failing(3)
    assert shards.read(0) == Shards.open("local").read(0)


def test_bytes_that_were_spoilt_once_are_fetched_again(store: Web) -> None:
    shards = opened(store)
    _, path = first_tar(shards)
    times = [0]

    def once(handler: w.Handler, data: bytes) -> None:
        times[0] += handler.command == "GET"
        handler.plain(200, data[::-1] if times[0] == 1 else data)

    store.odd[path] = once
    assert shards.read(0) == Shards.open("local").read(0)


def lying(handler: w.Handler, data: bytes) -> None:
    """State half of the length, and send that."""
    handler.plain(200, data[: len(data) // 2])


def longer(handler: w.Handler, data: bytes) -> None:
    handler.plain(200, data + b"more")


def gone(handler: w.Handler, data: bytes) -> None:
    handler.plain(404, b"")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (w.failing(99), MachineError, "status 503, 2 times in a row"),
        (w.stalling(0.8), MachineError, "no answer for 0.3 seconds, 2 times"),
        (w.short, MachineError, "ended before the length that the server stated, 2 times"),
        (lying, ShardError, r"truncated in its store.*[\d,]+ of [\d,]+ bytes"),
        (longer, ShardError, "another file in place of a shard"),
        (w.endless, ShardError, "cannot be read from its store"),
        (w.changing, ShardError, "other bytes than those of the shard"),
        (gone, ShardError, "is missing from its store.*status 404"),
        (w.redirecting("http://elsewhere.example/x"), ShardError, "cannot be read"),
    ],
)
def test_what_a_store_does_wrong_is_said_with_the_tar_and_the_place(
    store: Web, answer: w.Answer, kind: type[RepriseError], words: str
) -> None:
    shards = opened(store, timeout=IMPATIENT if "no answer" in words else QUICK["timeout"])
    name, path = first_tar(shards)
    store.odd[path] = answer
    with pytest.raises(kind) as caught:
        shards.read(0)
    said = str(caught.value)
    assert re.search(words, said), said
    assert name in said
    assert store.address + path in said
    assert [path for path in CACHE.iterdir() if path.name.startswith((".partial", ".lock-"))] == []
    del store.odd[path]
    assert opened(store).read(0) == Shards.open("local").read(0)  # when the store is well again


def test_a_store_that_drips_is_given_up(store: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = opened(store, attempts=1, timeout=IMPATIENT)
    _, path = first_tar(shards)
    store.odd[path] = w.dripping
    began = time.monotonic()
    with pytest.raises(MachineError, match="fewer than 1,024 bytes a second"):
        shards.read(0)
    assert time.monotonic() - began < 30


def test_what_is_expected_is_fetched_meanwhile_and_errors_wait_until_it_is_read(store: Web) -> None:
    shards = opened(store)
    _, path = first_tar(shards)
    store.odd[path] = gone
    numbers = shards.of_tar[0]
    shards.expect(list(dict.fromkeys(numbers.tolist())))
    for _ in range(3000):
        if sum(method == "GET" for method, _ in store.asked) == len(store.files):
            break
        time.sleep(0.01)
    table = read_far(Path(SHARDS))
    assert table is not None
    for _ in range(3000):
        if sum(path.name[0] != "." for path in CACHE.iterdir()) == len(store.files) - 1:
            break
        time.sleep(0.01)
    with pytest.raises(ShardError, match="missing from its store"):
        shards.read(0)
    expected = Shards.open("local")
    rows = [row for row in range(len(shards)) if numbers[row] != numbers[0]]
    asked = dict(store.asked)
    assert [shards.read(row) for row in rows] == [expected.read(row) for row in rows]
    assert dict(store.asked) == asked


def test_where_a_reader_says_what_it_will_read_no_other_tar_is_fetched(store: Web) -> None:
    shards = opened(store)
    numbers = shards.of_tar[0]
    shards.expect([0])
    for tar in (0, 1):
        shards.read(int(np.flatnonzero(numbers == tar)[0]))
    time.sleep(0.2)
    assert sum(method == "GET" for method, _ in store.asked) == 2


def test_threads_that_fetch_end_with_their_reader(store: Web) -> None:
    before = set(threading.enumerate())
    shards = opened(store)
    shards.expect([0, 1])
    fetching = {thread for thread in set(threading.enumerate()) - before if "_fetch_ahead" in thread.name}
    assert len(fetching) == QUICK["threads"]
    del shards
    gc.collect()
    for thread in fetching:
        thread.join(timeout=20)
    assert not [thread for thread in fetching if thread.is_alive()]


def test_a_tar_larger_than_the_cache_is_refused(store: Web) -> None:
    shards = opened(store)
    assert isinstance(shards.tars, FarTars)
    shards.tars.max_bytes = 1000
    with pytest.raises(ShardError, match=r"larger than the cache.*cache\.far\.max_bytes is 1,000"):
        shards.read(0)


def _spoilt(change: Callable[[pa.Table], pa.Table]) -> None:
    path = Path(SHARDS) / FILE
    pq.write_table(change(pq.read_table(path)), path)


def _with(column: str, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(column)
        values = [value, *table[column].to_pylist()[1:]]
        return table.set_column(index, table.schema.field(column), pa.array(values, table.schema.field(column).type))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_with("store", "s3://user:secret@elsewhere/x"), "2 addresses"),
        (lambda table: table.slice(0, 1), "a shard is missing"),
        (lambda table: table.slice(0, 0), "0 addresses"),
        (_with("sha256", "../../etc/passwd"), "a length or a hash that is none"),
        (_with("bytes", -1), "a length or a hash that is none"),
        (_with("bytes", 100), "a shard is truncated"),
        (lambda table: table.drop_columns(["store"]), "store"),
    ],
)
def test_a_table_from_elsewhere_leads_nowhere(store: Web, change: Callable[[pa.Table], pa.Table], words: str) -> None:
    _spoilt(change)
    with pytest.raises(ShardError, match=words) as caught:
        opened(store)
    assert "secret" not in str(caught.value)


def test_far_is_part_of_the_cache_and_has_sentences() -> None:
    assert CacheParams.model_validate({"far": {"max_bytes": 1 << 30}}).bounds == CacheParams().bounds
    for wrong in ("ftp://x/y", "http://user:pass@host/x", "https://host/x?sig=abc"):
        with pytest.raises(ValueError, match="address|protocol|query"):
            FarParams(read_from=wrong)
    assert json.loads(CacheParams().model_dump_json())["far"]["read_from"] is None
