"""`python -m stages.pretrain.show_views`: what changes and whole views make of the user's own pictures, as one page.

The pictures are training images of data/shards, spread over all of them. The page is self-contained: pictures lie in it
as data, and it asks for nothing from elsewhere. With --moments a table is printed in place of a page.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprise.artifacts.layout import VIEWS
from reprise.artifacts.shards import Shards
from reprise.config.params import ImageParams, read_yaml, section
from reprise.config.plug_ins.registry import load_class, names
from reprise.config.tables import row, tables
from reprise.media.image.encode import lossless_png
from reprise.media.lookup import IMAGE
from reprise.media.volume.slices import middle_slices
from reprise.reading.decoded import open_decoded
from reprise.runtime.entry import run_stage
from reprise.runtime.seeds import torch_rng
from reprise.storage.atomic import atomic_file
from reprise.training.change import Change, Cut, Frame
from reprise.training.params import TrainParams
from reprise.training.views import change_named
from stages.pretrain.method import Method
from stages.pretrain.parts.pixels.warps import folded_share
from stages.pretrain.views import volumes
from stages.pretrain.views.batched import made_view
from stages.pretrain.views.draws import draw_view, frame_of
from stages.pretrain.views.moments import Moments, closed, measured
from stages.pretrain.views.settings import ViewSettings, resolve_views

PICTURES, VIEWS_SHOWN = 8, 4
DRAWS = 400  # of each picture, for moments that are measured
ERROR = 0.01  # relative, up to which the mean of draws is to be known
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; overflow-wrap: break-word; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; } td, th { padding: .2rem .3rem; text-align: left; vertical-align: middle; }
td.words { max-width: 24rem; } code { font-size: 85%; overflow-wrap: anywhere; }
img { width: 96px; height: 96px; object-fit: contain; image-rendering: pixelated; display: block; }
"""


def main(argv: list[str]) -> None:
    """Parse the command line, and write the page or print the moments."""
    parser = argparse.ArgumentParser(prog="python -m stages.pretrain.show_views", description=__doc__)
    parser.add_argument("--run", help="a row of `runs`; without it the views of the section `train` are shown")
    parser.add_argument("--all", action="store_true", help="show every change that there is")
    parser.add_argument("--moments", action="store_true", help="print mean and deviation, in closed form and measured")
    parser.add_argument("--json", action="store_true", help="print the moments as JSON")
    parser.add_argument("--out", type=Path, default=Path(".reprise/views.html"), help="the page")
    options = parser.parse_args(argv)
    raw = read_yaml()
    image = section(raw, "image", ImageParams)
    modality = Shards.open().modality
    settings = settings_of(raw, options.run, image, modality)
    changes = [change_named(name) for name in names("changes")] if options.all else list(settings.changes)
    changes = [change for change in changes if modality in change.modalities]
    changes = [change for change in changes if image.channels == 3 or not change.needs_rgb]
    pixels = pictures(image)
    if options.moments:
        rows = list(moments_rows(changes, in_unit(pixels, image.size)))
        print(json.dumps(rows) if options.json else "\n".join(moments_table(rows, len(pixels))))
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(options.out, "w") as file:
        file.write(page(options.run or "train", changes, settings, pixels))
    print(f"written: {options.out}")


def settings_of(raw: dict[str, Any], run: str | None, image: ImageParams, modality: str = IMAGE) -> ViewSettings:
    """Resolve the views of a run, or of `train`; they are not normalised, because they are looked at.

    Raises:
        ParameterError: there is no such run.
    """
    train = section(raw, "train", TrainParams)
    if run is not None:
        chosen = row(tables(raw).runs, run, "--run")
        method = load_class("methods", chosen.method, Method, f"runs: {run}")
        params = method.Params.model_validate((raw.get("methods") or {}).get(run, {}))
        train = params.applied_to(train)
    plain = ((0.0,) * image.channels, (1.0,) * image.channels)
    return resolve_views(train.views, VIEWS, image, *plain, modality)


def pictures(image: ImageParams) -> list[np.ndarray]:
    """Read training images, evenly spread: (H, W, C) uint8 each, or (D, H, W, C)."""
    shards = Shards.open()
    rows = shards.rows("train")
    chosen = rows[np.linspace(0, len(rows) - 1, min(PICTURES, len(rows))).astype(int)]
    decoded = open_decoded(shards, chosen, image.channels)
    return [decoded.image(i) for i in range(len(chosen))]


def in_unit(pixels: list[np.ndarray], size: int) -> Tensor:
    """Return whole pictures as squares: (n, C, S, S) in [0, 1]."""
    whole = ViewSettings(size, pixels[0].shape[-1], (0.0,), (1.0,))
    return torch.cat([seen(picture, whole, "whole") for picture in pixels])


def seen(picture: np.ndarray, settings: ViewSettings, *seed: int | str) -> Tensor:
    """Make one view of one picture: (1, C, S, S) in [0, 1], of a volume (1, C, S, S, S)."""
    *depth, height, width, channels = picture.shape
    plain = replace(settings, mean=(0.0,) * channels, std=(1.0,) * channels)
    frame = replace(frame_of(1, height, width), depth=depth[0] if depth else None)
    drawn = draw_view(frame, plain, torch_rng(0, "shown", *seed))
    make = volumes.made_view if depth else made_view
    return make(torch.from_numpy(np.array(picture))[None], plain, drawn)


def always(change: Change) -> Change:
    """Return the change as it happens in every view."""
    if isinstance(change, Cut):
        return change
    return type(change)(change.params.model_copy(update={"probability": 1.0}))


def page(title: str, changes: Sequence[Change], settings: ViewSettings, pixels: list[np.ndarray]) -> str:
    """Write the page: a row of pictures for each change alone, then rows of whole views."""
    whole = replace(settings, changes=())
    rows = [_row("pictures", "as they are", [seen(p, whole, "whole") for p in pixels])]
    for change in changes:
        alone, name = replace(settings, changes=(always(change),)), change.params.name
        options = {key: value for key, value in change.params.model_dump().items() if key != "name"}
        words = ", ".join(f"{key}: {value}" for key, value in options.items())
        rows.append(_row(name, words, [seen(p, alone, name, i) for i, p in enumerate(pixels)]))
    for view in range(VIEWS_SHOWN):
        own = settings.of_view(view)
        made = [seen(p, own, "view", view, i) for i, p in enumerate(pixels)]
        rows.append(_row(f"view {view + 1}", "all changes, each with its own probability", made))
    style = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        f"style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Views of {escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>Views of {escape(title)}</h1><p>Each change alone happens in every picture of its row. Below stand whole "
        f"views, {settings.size} pixels wide.</p>"
        '<div class="scroll" tabindex="0" role="group" aria-label="Pictures, a row for each change">'
        f"<table>{''.join(rows)}</table></div></main></body></html>\n"
    )


def _row(name: str, words: str, views: Iterable[Tensor]) -> str:
    cells = "".join(f'<td><img alt="{escape(name)}" src="{_data(view)}"></td>' for view in views)
    return f'<tr><th scope="row">{escape(name)}</th><td class="words"><code>{escape(words)}</code></td>{cells}</tr>'


def _data(view: Tensor) -> str:
    """Write (1, C, S, S) in [0, 1] as a PNG in the page; of more than three bands, the first three are shown.

    Of a volume, the middle slices are shown.
    """
    pixels = view[0].movedim(0, -1).mul(255).add(0.5).clamp(0, 255).to(torch.uint8).numpy()
    pixels = middle_slices(pixels) if pixels.ndim > 3 else pixels
    shown = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, :1]
    return f"data:image/png;base64,{base64.b64encode(lossless_png(np.ascontiguousarray(shown))).decode()}"


def moments_rows(changes: Sequence[Change], x: Tensor) -> Iterator[dict[str, Any]]:
    """Measure for each change how far it moves the mean picture, its deviation, and how many draws show the mean.

    Returns:
        For each change its name; `closed` (None where there is no closed form) and `measured`, each with `mean_by` and
        `deviation` in steps of 255 and with `draws`; and the share of pixels at which it `folds`, or None.
    """
    for change in changes:
        if isinstance(change, Cut):
            continue
        drawn = measured(change, x, DRAWS, torch_rng(0, "moments", change.params.name))
        found = closed(change, x)
        yield {
            "change": change.params.name,
            "closed": _figures(found, x) if found else None,
            "measured": _figures(drawn, x),
            "folds": folds(change, x),
        }


def moments_table(rows: Sequence[dict[str, Any]], pictures: int) -> Iterator[str]:
    """Write the moments as lines of a table."""
    form = "{:<14} {:>9} {:>10} {:>10} {:>9}"
    yield f"{pictures} pictures, {DRAWS} draws of each; mean and deviation in steps of 255"
    yield f"draws: after so many, the mean of draws is known to within {ERROR:.0%} of the picture"
    yield form.format("change", "", "mean by", "deviation", "draws")
    for each in rows:
        yield form.format(each["change"], "closed" if each["closed"] else "-", *_cells(each["closed"]))
        yield form.format("", "measured", *_cells(each["measured"]))
        if each["folds"] is not None:
            yield f"{'':<14} {'folds':>9} {each['folds']:.2%} of the pixels"


def folds(change: Change, x: Tensor) -> float | None:
    """Return the share of pixels at which a warp turns the picture over, on average; None for other changes."""
    source = getattr(change, "source", None)
    if source is None:
        return None
    size, channels = x.shape[-1], x.shape[1]
    drawn = change.draw(Frame(DRAWS, size, size, size, channels), torch_rng(0, "folds", change.params.name))
    return float(folded_share(source(drawn, size)).mean())


def _figures(moments: Moments, x: Tensor) -> dict[str, float]:
    return {
        "mean_by": 255 * float((moments.mean - x).square().mean().sqrt()),
        "deviation": 255 * float(moments.variance.mean().sqrt()),
        "draws": float(moments.samples(ERROR)),
    }


def _cells(figures: dict[str, float] | None) -> tuple[str, str, str]:
    if figures is None:
        return "-", "-", "-"
    mean_by, deviation, draws = figures["mean_by"], figures["deviation"], figures["draws"]
    return f"{mean_by:.2f}", f"{deviation:.2f}", f"{draws:,.0f}"


if __name__ == "__main__":
    run_stage(main)
