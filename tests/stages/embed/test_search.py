"""Search: an image of the data set finds itself first, the order is that of a naive search, and the page is safe."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reprise.artifacts import layout
from reprise.artifacts.embeddings import read_embeddings, write_embeddings
from reprise.artifacts.manifest import read_manifest, write_manifest
from reprise.artifacts.shards import INDEX, INDEX_SCHEMA, Shards, write_index
from reprise.artifacts.tables.parquet import read_table
from reprise.config.errors import EmbeddingError, ShardError
from reprise.storage import ustar
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams
from stages.embed.search import nearest_images
from stages.embed.search_page import page

PARAMS = EmbedParams(augmented=0)
HOSTILE = 'images/"><script>alert(1)</script>\u202e\n.png'


def alone(row: int) -> Shards:
    """The image of a row of the data set in shards of its own."""
    shards = Shards.open()
    data, folder = shards.read(row), Path("query")
    folder.mkdir(exist_ok=True)
    (folder / "one.tar").write_bytes(ustar.member("x.png", data) + ustar.END)
    index = read_table(layout.SHARDS / INDEX, INDEX_SCHEMA, ShardError, "").to_pylist()[row]
    index |= {"shard": "one.tar", "offset": ustar.BLOCK}
    write_index(folder / INDEX, pa.Table.from_pylist([index], schema=INDEX_SCHEMA))
    return Shards.open(folder)


def test_the_nearest_images_are_those_of_a_naive_search(run) -> None:
    embed("simclr", 0, PARAMS, layout.embedding("simclr", 0))
    query, cached = alone(7), sorted(Path(".reprise/decoded").iterdir())
    found = nearest_images(query, "simclr", 0, PARAMS, 9)
    assert sorted(Path(".reprise/decoded").iterdir()) == cached, "one image is not worth an entry of the cache"
    keys, _, values = read_embeddings(layout.embedding("simclr", 0) / "embeddings.parquet")
    unit = values.astype(np.float64) / np.linalg.norm(values, axis=1, keepdims=True)
    cosine = unit @ unit[list(keys).index(query.keys[0])]
    assert [image["key"] for image in found] == keys[np.argsort(-cosine, kind="stable")[:9]].tolist()
    assert [image["similarity"] for image in found] == pytest.approx(np.sort(cosine)[::-1][:9], abs=1e-5)
    assert [image["is_the_image"] for image in found] == [True] + [False] * 8
    assert found[0]["path"] == f"images/{query.keys[0]}.png"


def test_embeddings_of_another_backbone_are_refused(run) -> None:
    embed("simclr", 0, PARAMS, layout.embedding("simclr", 0))
    path = layout.embedding("simclr", 0) / "embeddings.parquet"
    keys, splits, values = read_embeddings(path)
    write_embeddings(path, keys, splits, {"backbone": values[:, :5]})
    with pytest.raises(EmbeddingError, match="of another backbone"):
        nearest_images(alone(0), "simclr", 0, PARAMS, 3)


class Reader(HTMLParser):
    """Collects tags and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_is_self_contained_and_names_stay_text(run) -> None:
    embed("simclr", 0, PARAMS, layout.embedding("simclr", 0))
    rows = read_manifest().to_pylist()
    hostile = [row | {"path": HOSTILE, "label": "<b>"} for row in rows]
    write_manifest(layout.MANIFEST, pa.Table.from_pylist(hostile))
    query = alone(3)
    found = nearest_images(query, "simclr", 0, PARAMS, 4)
    text = page(HOSTILE, query, Shards.open(), found, "simclr, seed 0")
    reader = Reader()
    reader.feed(text)
    assert "script" not in reader.tags
    assert "b" not in reader.tags
    assert len(reader.sources) == 5
    assert all(source.startswith("data:image/") for source in reader.sources)
    assert "\u202e" not in text
    assert len(re.findall("the same file", text)) == 1
