"""What is kept of the pose of drawn objects, and what views of one object give as positives.

    nice -n 10 python -m studies.factors.pose [--out FOLDER] [--seeds 0 1 2] [--shown 30000] [--turn 45] [--only ...]

The views of the source `mini3d` are held in memory, and the product's own method classes are trained on them in a plain
loop, each for the same number of views. Partners are other views of the same object, as the miner `views` pairs them.
200 objects are trained on, 30 choose penalties, and 70 that nothing has seen are judged: by the probe `equivariance`,
how well the rotation between two views is read off (r2) and followed (mrr), for all features and, of `sie`, for those
that turn (tail) and the others (head); by a linear classifier, the class; and view consistency, the mean share of the
views of an object that get its most frequent answer. Written: `pose-<seed>.json`, and `pose.md` with means and paired
intervals over all seeds that lie in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from studies.paired import said

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from stages.pretrain.method import Batch, Method

OBJECTS, VIEWS, SIZE, BATCH = {"train": 200, "val": 30, "test": 70}, 10, 16, 128
SIE = {"hidden": 256, "output": 128, "frame": "camera"}
CONTRAST = {"hidden": 128, "output": 64, "temperature": 0.2}
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "vicreg_pairs": ("sie", {**SIE, "equivariant": 0.0}),
    "sie": ("sie", SIE),
    "sie_heavy": ("sie", {**SIE, "weight": 4.5}),
    "simclr": ("simclr", CONTRAST),
    "pair_contrast": ("pair_contrast", CONTRAST),
}
PAIRS = [
    ("sie", "r2", "vicreg_pairs", "r2"), ("sie", "r2_tail", "vicreg_pairs", "r2"), ("sie", "r2_tail", "sie", "r2_head"),
    ("sie", "class", "vicreg_pairs", "class"), ("sie", "mrr", "sie", "mrr_identity"),
    ("sie", "mrr_tail", "sie", "mrr_identity_tail"), ("sie", "mrr", "vicreg_pairs", "mrr"),
    ("pair_contrast", "consistency", "simclr", "consistency"), ("pair_contrast", "class", "simclr", "class"),
]  # fmt: skip
SHOWN = ("r2", "r2_tail", "r2_head", "mrr", "mrr_identity", "mrr_tail", "mrr_identity_tail", "class", "consistency")
Figures = dict[str, float]


class Drawn(NamedTuple):
    """All views, object by object.

    Attributes:
        pixels: (n, 3, SIZE, SIZE) normalised.
        poses: (n, 4) unit quaternions.
        objects: (n,) numbers of the objects.
        kinds: (n,) classes.
    """

    pixels: Tensor
    poses: np.ndarray
    objects: np.ndarray
    kinds: list[str]


def draw(turn: float) -> Drawn:
    """Draw the views, and write what the probe reads of them into the current folder."""
    import numpy as np
    import torch

    from reprise.config.plug_ins.registry import load_class
    from stages.ingest.source import Source

    source_class: Any = load_class("sources", "mini3d", Source, "")
    count = sum(OBJECTS.values())
    source = source_class(Path("."), source_class.Params(objects=count, views=VIEWS, size=SIZE, turn=turn))
    solids = [source.solid(i) for i in range(count)]
    seen = [source.view(solid, i, k) for i, solid in enumerate(solids) for k in range(VIEWS)]
    pixels = np.stack([view.pixels for view in seen]).transpose(0, 3, 1, 2) / 255
    pixels = (pixels - pixels.mean((0, 2, 3), keepdims=True)) / pixels.std((0, 2, 3), keepdims=True)
    poses, objects = np.stack([view.pose for view in seen]), np.repeat(np.arange(count), VIEWS)
    found = Drawn(torch.from_numpy(pixels).float(), poses, objects, [solids[i].kind for i in objects])
    write_known(found)
    return found


def write_known(drawn: Drawn) -> None:
    """Write manifest.parquet, and the poses as facts."""
    import pyarrow as pa

    from reprise.artifacts.facts.table import Facts, objects, write_facts
    from reprise.artifacts.layout import ALL_FACTS
    from reprise.artifacts.manifest import write_manifest
    from reprise.config.facts import Fact

    keys, n = keys_of(drawn), len(drawn.objects)
    same = {"offset": 0, "bytes": 1, "width": SIZE, "height": SIZE, "channels": 3, "format": "PNG", "plain": True}
    columns: dict[str, Any] = {name: [value] * n for name, value in same.items()}
    columns |= {"key": keys, "path": [f"{key}.png" for key in keys], "split": splits_of(drawn), "label": drawn.kinds}
    columns |= {name: [key * 2 for key in keys] for name in ("pixels", "sha256")}
    write_manifest(Path("manifest.parquet"), pa.table(columns | {"group": [str(i) for i in drawn.objects]}))
    ALL_FACTS.mkdir(parents=True)
    numbers = {f"pose_{part}": drawn.poses[:, k] for k, part in enumerate("wxyz")}
    write_facts(ALL_FACTS, Facts(tuple(Fact(name, "number") for name in numbers), objects(keys), numbers, {}))


def keys_of(drawn: Drawn) -> list[str]:
    """Name the views, in their order."""
    return [f"{i:024d}" for i in range(len(drawn.objects))]


def splits_of(drawn: Drawn) -> list[str]:
    """Give every view the split of its object."""
    listed = [split for split, count in OBJECTS.items() for _ in range(count)]
    return [listed[i] for i in drawn.objects]


def train(name: str, seed: int, shown: int, drawn: Drawn) -> nn.Module:
    """Train one setting for `shown` views, with AdamW and a cosine, and return its backbone."""
    import math

    import numpy as np
    import torch

    from reprise.config.plug_ins.registry import load_class
    from reprise.networks.backbone import build_backbone
    from stages.pretrain.method import Context, Method

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    kind, options = SETTINGS[name]
    method_class = load_class("methods", kind, Method, "")
    steps = shown // BATCH
    context = Context(len(drawn.objects), 0, steps, SIZE, 3, (0.0,) * 3, (1.0,) * 3, seed, facts={"pose": drawn.poses})
    method = method_class(build_backbone("resnet_tiny", 3, SIZE), method_class.Params(**options), context).train()
    optimizer = torch.optim.AdamW(method.parameters(), 0.004, weight_decay=1e-4)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.004 * min(1, (step + 1) / 20) * (1 + math.cos(math.pi * step / steps)) / 2
        loss, _ = method.step(batch_of(method, drawn, rng, cropped=kind != "sie"))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / steps)
    return method.trained_backbone().eval()


def batch_of(method: Method, drawn: Drawn, rng: np.random.Generator, cropped: bool) -> Batch:
    """Draw BATCH views: of half as many images beside partners, or two of each of half as many images."""
    import numpy as np
    import torch

    from stages.pretrain.method import Batch

    first = rng.integers(OBJECTS["train"] * VIEWS, size=BATCH // 2)
    other = first // VIEWS * VIEWS + (first % VIEWS + rng.integers(1, VIEWS, BATCH // 2)) % VIEWS
    if not method.needs_pairs:
        return Batch([changed(drawn.pixels[first], cropped) for _ in range(2)], torch.from_numpy(first))
    rows = np.concatenate([first, other])
    fields: Any = {"partner": torch.arange(BATCH).roll(BATCH // 2), "weights": torch.ones(BATCH)}
    facts = {"pose": torch.from_numpy(drawn.poses[rows]).float()} if "pose" in method.reads else {}
    return Batch([changed(drawn.pixels[rows], cropped)], torch.from_numpy(rows), fields, facts)


def changed(x: Tensor, cropped: bool) -> Tensor:
    """Change the contrast of each view, and cut out between 0.6 and all of its side where this is asked for."""
    import torch
    import torch.nn.functional as F

    x = x * (1 + 0.2 * (torch.rand(len(x), 1, 1, 1) - 0.5))
    if not cropped:
        return x
    side = 0.6 + 0.4 * torch.rand(len(x), 1)
    shift = (2 * torch.rand(len(x), 2) - 1) * (1 - side)
    matrix = torch.cat([torch.diag_embed(side.expand(-1, 2)), shift[:, :, None]], dim=2)
    return F.grid_sample(x, F.affine_grid(matrix, list(x.shape), align_corners=False), align_corners=False)


def judged(backbone: nn.Module, drawn: Drawn) -> Figures:
    """Return the figures of one backbone; shares are in percent."""
    import numpy as np
    import torch

    from reprise.artifacts.embeddings import write_embeddings
    from reprise.config.plug_ins.registry import load_class
    from reprise.measures.linear import Problem
    from stages.probe.data import ProbeData
    from stages.probe.probe import Probe

    with torch.inference_mode():
        features = torch.cat([backbone(part) for part in drawn.pixels.split(500)]).numpy()
    keys, splits = (np.array(part, dtype=object) for part in (keys_of(drawn), splits_of(drawn)))
    write_embeddings(Path("embeddings.parquet"), keys, splits, {"backbone": features})
    data = ProbeData("embeddings.parquet", "manifest.parquet")
    probe: Any = load_class("probes/factors", "equivariance", Probe, "")
    found = {name: f.value for name, f in probe(probe.Params(frame=SIE["frame"])).run(data).metrics.items()}
    test = data.part("test")
    learned = Problem(data.features("train"), data.part("train").labels).fit(1e-2)
    answers = learned.predict(data.features("test"))[0]
    assert test.groups is not None
    found["class"] = 100 * float((answers == test.labels).mean())
    found["consistency"] = 100 * consistency(answers, test.groups)
    return found


def consistency(answers: np.ndarray, groups: np.ndarray) -> float:
    """Average over objects the share of its views that get its most frequent answer."""
    import numpy as np

    shares = [np.bincount(answers[groups == g]).max() / (groups == g).sum() for g in np.unique(groups)]
    return float(np.mean(shares))


def tables(results: dict[str, dict[int, Figures]]) -> str:
    """Write the means of each setting, and paired differences, as Markdown."""
    lines = [f"| setting | seeds | {' | '.join(SHOWN)} |", "|---" * (len(SHOWN) + 2) + "|"]
    for name, seeds in results.items():
        cells = []
        for figure in SHOWN:
            values = [figures[figure] for figures in seeds.values()]
            cells.append(f"{sum(values) / len(values):.{1 if figure in ('class', 'consistency') else 3}f}")
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    lines += ["", "| comparison | seeds | difference | 95 % interval | |", "|---|---|---|---|---|"]
    for a, figure, b, other in PAIRS:
        common = sorted(results.get(a, {}).keys() & results.get(b, {}).keys())
        if len(common) < 2:
            continue
        cells = " | ".join(said([results[a][seed][figure] - results[b][seed][other] for seed in common], 3))
        lines.append(f"| {a} {figure} against {b} {other} | {len(common)} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, judge, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".reprise/studies/pose"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shown", type=int, default=30_000, help="views that each training sees")
    parser.add_argument("--turn", type=float, default=45.0, help="degrees")
    parser.add_argument("--only", nargs="+", default=list(SETTINGS), help="names of settings")
    options = parser.parse_args()
    out, began = options.out.resolve(), time.time()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="reprise-pose-") as scratch:
        os.chdir(scratch)
        drawn = draw(options.turn)
        for seed in options.seeds:
            found = {}
            for name in options.only:
                found[name] = judged(train(name, seed, options.shown, drawn), drawn)
                print(f"{time.time() - began:.0f} s: {name} seed {seed}: {json.dumps(found[name])}", flush=True)
                (out / f"pose-{seed}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        os.chdir("/")
    results: dict[str, dict[int, Figures]] = {name: {} for name in SETTINGS}
    for file in sorted(out.glob("pose-*.json")):
        for name, figures in json.loads(file.read_text(encoding="utf-8")).items():
            results[name][int(file.stem.partition("-")[2])] = figures
    written = tables({name: seeds for name, seeds in results.items() if seeds})
    (out / "pose.md").write_text(written, encoding="utf-8")
    print(written)


if __name__ == "__main__":
    from reprise.runtime.entry import prepare_process

    prepare_process()
    main()
