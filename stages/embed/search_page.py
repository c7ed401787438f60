"""The page of `reprise search`: an image and those nearest to it. It is self-contained, and asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from reprise.artifacts.shards import Shards
from reprise.config.errors import printable
from reprise.media.image.encode import smallest
from reprise.media.lookup import modality

SIDE = 160  # pixels of the longer side of a picture
LONGEST = 200  # characters of a name
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 1100px; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; }
ol { list-style: none; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); }
figure { margin: 0; } figcaption { overflow-wrap: anywhere; font-size: 13px; }
img { display: block; max-width: 100%; height: auto; }
@media print { li { break-inside: avoid; } }
"""


def page(name: str, query: Shards, shards: Shards, found: Sequence[dict[str, Any]], run: str) -> str:
    """Write the page.

    Args:
        name: of the image.
        query: shards with the image alone.
        shards: of the data set.
        found: the nearest images, as `stages.embed.search.nearest_images` returns them.
        run: the run and seed, in words.

    Raises:
        ShardError: the shards lack one of them.
    """
    keys = [image["key"] for image in found]
    rows = dict(zip(keys, shards.rows_of(np.array(keys, object)).tolist(), strict=True))
    folder = common_folder([image["path"] for image in found])
    title = f"Images nearest to {os.path.basename(name)}"
    style = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    items = "".join(_item(image, shards, rows[image["key"]], folder) for image in found)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        f"style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body><main><h1>{_text(title)}</h1>"
        f"<p>Searched by the backbone of the run {_text(run)}. The number is the cosine similarity of the features, "
        f"at most 1. The files lie in <code>{_text(folder or '.')}</code>.</p>"
        f"{_picture(query, 0, name, 'the image that was searched for')}"
        f"<h2>Nearest images</h2><ol>{items}</ol></main></body></html>\n"
    )


def common_folder(paths: Sequence[str]) -> str:
    """Return the folder that holds all files; empty where there is none."""
    folders = [os.path.dirname(path) for path in paths]
    try:
        return os.path.commonpath(folders) if folders else ""
    except ValueError:  # absolute and relative paths together
        return ""


def _item(image: dict[str, Any], shards: Shards, row: int, folder: str) -> str:
    name = os.path.relpath(image["path"], folder) if folder else image["path"]
    words = [f"{image['rank']}. {name}", f"{image['similarity']:.4f}", image["split"]]
    words += [f"class {image['label']}"] if image["label"] is not None else []
    words += ["the same file"] if image["is_the_image"] else []
    return (
        f"<li><figure>{_picture(shards, row, image['key'], name)}"
        f"<figcaption>{'<br>'.join(map(_text, words))}</figcaption></figure></li>"
    )


def _picture(shards: Shards, row: int, where: str, alt: str) -> str:
    pixels = modality(shards.modality).thumbnail(shards.read(row), where, SIDE)
    subtype, encoded = smallest(pixels, lossless=False)
    uri = f"data:image/{subtype};base64,{base64.b64encode(encoded).decode('ascii')}"
    return f'<img src="{uri}" width="{pixels.shape[1]}" height="{pixels.shape[0]}" alt="{_text(alt)}">'


def _text(text: str) -> str:
    """Escape a text from outside, and show what is invisible in it."""
    return escape(printable(text, LONGEST).replace("\n", "\\n"))
