"""What telling, averaging and drawing symmetries gives: the figures of the section Symmetry of a page of measurements.

    python -m studies.symmetry PART [--data FOLDER] [--out FOLDER] [--seeds 3] [--epochs 12] [--images 1200]

PART is `told` (`essl` against `simclr`: which of four turns an image has, and kNN), `average` (`frame_average` against
the network within it, on turned images), `affine` (training with and without the change `affine`, on changed images) or
`strengths` (an exact, an approximate and a broken symmetry in a synthetic regression). Without --data the images are
the embedded digits; FOLDER holds `train/<class>/*` and `test/<class>/*`. Trainings are those of the stage `pretrain`,
one after the other. Each prints its figures, and the end a table with paired intervals over the seeds; `<part>.json`
and `<part>.md` in --out are written anew after each.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from studies.paired import said

SIZE = 16
PLAIN: list[Any] = [{"name": "crop", "scale_min": 0.3}]
COLOURED: list[Any] = [*PLAIN, "flip", {"name": "colour", "strength": 0.5}, "grey"]
AFFINE: dict[str, Any] = {"name": "affine", "rotation": 40.0, "scale": 1.2, "stretch": 1.4, "shift": 0.1}
SETTINGS: dict[str, dict[str, tuple[str, str, dict[str, Any]]]] = {  # part -> name -> method, backbone, parameters
    "told": {"essl": ("essl", "resnet_tiny", {}), "simclr": ("simclr", "resnet_tiny", {})},
    "average": {
        "frame_average": ("simclr", "frame_average", {"views": PLAIN}),
        "resnet_tiny": ("simclr", "resnet_tiny", {"views": PLAIN}),
    },
    "affine": {
        "with": ("simclr", "resnet_tiny", {"views": [*PLAIN, AFFINE]}),
        "without": ("simclr", "resnet_tiny", {"views": PLAIN}),
    },
}
BREAKS = {"exact": 0.0, "approximate": 0.4, "broken": 1.0}  # length of the part that is odd, that of the even one is 1


# ---------------------------------------------------------------------------------------------------- trainings
def trained(name: str, setting: tuple[str, str, dict[str, Any]], seed: int, epochs: int, colour: bool) -> Path:
    """Train one setting by the stage `pretrain`; return the folder of the run."""
    from reprise.artifacts.layout import run as folder_of
    from reprise.config.params import ImageParams
    from reprise.config.plug_ins.registry import load_class
    from reprise.config.tables import RunRow
    from reprise.training.params import TrainParams
    from stages.pretrain.method import Method
    from stages.pretrain.run import pretrain

    method, backbone, options = setting
    shared: dict[str, Any] = {
        "backbone": backbone, "epochs": epochs, "batch_size": 128, "optimizer": "sgd", "learning_rate": 0.4,
        "weight_decay": 1e-4, "warmup_epochs": 1, "checkpoint_steps": 10_000, "on_collapse": "warn",
        "views": COLOURED if colour else PLAIN,
    }  # fmt: skip
    params = load_class("methods", method, Method, "").Params.model_validate(options)
    row, out = RunRow(name=name, method=method, labels="none"), folder_of(name, seed)
    image = ImageParams(size=SIZE, channels=3)
    pretrain(row, seed, image, TrainParams.model_validate(shared), params, out, restart=True)
    return out


def images_of(split: str, most: int) -> tuple[Any, Any]:
    """Return images of a split, (n, 3, S, S) in [0, 1], and their classes (n,)."""
    import numpy as np
    import torch

    from reprise.artifacts.manifest import read_manifest
    from reprise.artifacts.shards import Shards
    from reprise.reading.decoded import open_decoded

    table, shards = read_manifest(), Shards.open()
    labels = dict(zip(table["key"].to_pylist(), table["label"].to_pylist(), strict=True))
    classes, rows = sorted(set(labels.values())), shards.rows(split)
    rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    pixels = np.array(open_decoded(shards, rows, 3).resized(SIZE))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, np.array(
        [classes.index(labels[key]) for key in shards.keys[rows]]
    )


def features_of(run: Path, x: Any) -> Any:
    """Return the features of images by a trained backbone: (n, d)."""
    import torch

    from reprise.artifacts.weights.backbones import open_weights, read_config
    from reprise.networks.assemble import assemble

    config = read_config(run)
    network = assemble(config, *open_weights(run), where=str(run)).eval()
    mean, std = (torch.tensor(config[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        return torch.cat([network((part - mean) / std)["backbone"].float() for part in x.split(256)]).numpy()


def nearest(run: Path, x: Any, most: int) -> float:
    """Return kNN accuracy (k = 20) of test images `x` among the training images, in percent."""
    from reprise.measures.nearest.neighbours import classify

    known, labels = images_of("train", most)
    answer = classify(features_of(run, x), features_of(run, known), labels, int(labels.max()) + 1, 20, 0.07)[0]
    return 100 * float((answer == images_of("test", most)[1]).mean())


# --------------------------------------------------------------------------------------------------------- parts
def turned(x: Any) -> tuple[Any, Any]:
    """Show images in all four turns, and which: (4 n, 3, S, S), (4 n,)."""
    import numpy as np
    import torch

    return torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)]), np.repeat(np.arange(4), len(x))


def told(run: Path, seed: int, most: int) -> dict[str, float]:
    """Read which turn an image has from its features by a linear classifier, and its class by neighbours."""
    from reprise.measures.linear import Problem

    x, x_test = images_of("train", most)[0], images_of("test", most)[0]
    (x, y), (x_turned, y_turned) = turned(x), turned(x_test)
    answer = Problem(features_of(run, x), y).fit(1e-3).predict(features_of(run, x_turned))[0]
    return {"turn": 100 * float((answer == y_turned).mean()), "knn": nearest(run, x_test, most)}


def changed_by_chance(run: Path, seed: int, most: int, turn: bool) -> dict[str, float]:
    """Classify test images as they are and changed: turned by quarters, or by the change `affine`."""
    import torch

    from reprise.training.change import Frame
    from reprise.training.views import change_named

    x = images_of("test", most)[0]
    rng = torch.Generator().manual_seed(seed)
    if turn:
        which = torch.randint(1, 4, (len(x),), generator=rng)
        changed = torch.stack([torch.rot90(image, int(k), (1, 2)) for image, k in zip(x, which, strict=True)])
    else:
        change = change_named(**AFFINE)
        drawn = change.draw(Frame(len(x), SIZE, SIZE, SIZE, 3), rng)
        changed = change.apply(x.clone(), change.prepared(drawn))
    plain, other = nearest(run, x, most), nearest(run, changed, most)
    return {"knn": plain, "changed": other, "lost": plain - other}


# ------------------------------------------------------------------------------------------------------ strengths
def strengths(seed: int, examples: int, weight: float = 0.1, steps: int = 300) -> dict[str, float]:
    """Fit a linear map with an exact, an approximate and a broken symmetry; return R of each, and the errors.

    The eight inputs and outputs are the corners of a cube, which has a mirroring along each axis. The true map is
    equivariant under the first, nearly so under the second and not under the third. It is fitted to a few noisy
    examples, with the term for all three symmetries and without. Its weight was chosen with other seeds than these.
    """
    import torch

    from reprise.objectives.weights.symmetry import averaged_map, distance

    seed += 100  # those below served to choose the weight
    rng = torch.Generator().manual_seed(seed)
    same, corner = torch.eye(8), torch.arange(8)
    mirrored = {name: torch.stack([same, same[corner ^ (1 << k)]]) for k, name in enumerate(BREAKS)}

    def projected(matrix: Any, name: str) -> Any:
        return averaged_map(matrix, mirrored[name], mirrored[name])

    truth = torch.randn(8, 8, generator=rng)
    for name in BREAKS:
        truth = projected(truth, name)
    truth = truth / truth.norm()
    for name, strength in BREAKS.items():
        odd = torch.randn(8, 8, generator=rng)
        for other in BREAKS:
            odd = odd - projected(odd, other) if other == name else projected(odd, other)
        truth = truth + strength * odd / odd.norm()
    x = torch.randn(examples, 8, generator=rng)
    y = x @ truth.T + 0.5 * torch.randn(examples, 8, generator=rng)
    found = {}
    for share in (0.0, weight):
        fitted = torch.zeros(8, 8).normal_(std=0.1, generator=torch.Generator().manual_seed(seed)).requires_grad_()
        optimizer = torch.optim.Adam([fitted], 0.02)
        for _ in range(steps):
            term = sum(distance(fitted, projected(fitted, name)) for name in BREAKS)
            loss = (x @ fitted.T - y).square().mean() + share * term
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            strength_of = {name: float(distance(fitted, projected(fitted, name))) for name in BREAKS}
            found["error" if share else "error_without"] = float((fitted - truth).square().mean())
        values = list(strength_of.values())
        found["ranked" if share else "ranked_without"] = float(values == sorted(values))
    return {**strength_of, **found}


# --------------------------------------------------------------------------------------------------------- tables
def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Write means, and the paired difference of the first setting from the second, as Markdown.

    Of `strengths` it is the difference of both errors that is paired. Only seeds that both have are compared.
    """
    first = next(iter(results.values()))
    names = list(first[0])
    lines = [f"| setting | seeds | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for name, seeds in results.items():
        means = [sum(figures[n] for figures in seeds) / len(seeds) for n in names]
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(f'{m:.4g}' for m in means)} |")
    if len(results) == 2 and len(first) > 1:
        other = list(results.values())[1]
        both = list(zip(first, other, strict=False))  # the second of the last seed may be to come
        cells = [_difference([a[n] - b[n] for a, b in both], 2) for n in names] if len(both) > 1 else []
        lines += [f"| difference | {len(both)} | {' | '.join(cells)} |"] if cells else []
    if "error_without" in names and len(first) > 1:
        less = _difference([figures["error_without"] - figures["error"] for figures in first], 4)
        lines += ["", f"With the term the squared error is less by {less}, over {len(first)} seeds."]
    return "\n".join(lines)


def _difference(differences: list[float], digits: int) -> str:
    mean, interval, _ = said(differences, digits)
    return f"{mean} [{interval.replace(' to ', ', ')}]"


def write(results: dict[str, list[dict[str, float]]], out: Path, part: str) -> None:
    """Write what there is so far: the figures of each seed, and the table."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{part}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / f"{part}.md").write_text(table(results) + "\n", encoding="utf-8")


def main() -> None:
    """Train, judge, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=[*SETTINGS, "strengths"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(".reprise/studies/symmetry"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, default=1200, help="of each split that are judged, at most")
    parser.add_argument("--examples", type=int, default=32, help="that `strengths` fits a map to")
    options = parser.parse_args()
    began, data = time.time(), options.data.resolve() if options.data else None
    results: dict[str, list[dict[str, float]]] = {}
    out = options.out.resolve()
    with tempfile.TemporaryDirectory(prefix="reprise-symmetry-") as scratch:
        os.chdir(scratch)
        if options.part != "strengths":
            from reprise.runtime.entry import prepare_process
            from studies.views import make_workspace

            prepare_process()
            make_workspace(data)
        for seed in range(options.seeds):
            if options.part == "strengths":
                results.setdefault("strengths", []).append(strengths(seed, options.examples))
                print(seed, json.dumps(results["strengths"][-1]), flush=True)
                write(results, out, options.part)
                continue
            for name, setting in SETTINGS[options.part].items():
                run = trained(name, setting, seed, options.epochs, colour=data is not None)
                if options.part == "told":
                    figures = told(run, seed, options.images)
                else:
                    figures = changed_by_chance(run, seed, options.images, turn=options.part == "average")
                results.setdefault(name, []).append(figures)
                print(seed, name, json.dumps(figures), f"after {time.time() - began:.0f} s", flush=True)
                write(results, out, options.part)
        os.chdir("/")
    print(table(results))


if __name__ == "__main__":
    main()
