"""SimCLR on CIFAR-10 on one GPU, the whole recipe: curve, images/s, utilisation, kNN and linear accuracy.

    python -m benchmarks.gpu_cifar10 --data FOLDER [--epochs 100] [--json FILE]      # train/<class>/*, test/<class>/*
    python -m benchmarks.gpu_cifar10 --toy                                             # digits on a CPU, seconds

ResNet-18 with CIFAR stem, batch 512; recipe of a public script (20 minutes on an A100, kNN 83.2, linear 85.6): SGD at
0.06 x batch / 256, weight decay 5e-4, cosine, temperature 0.5, projector 1024-128, crops from 0.2, grey 0.1, no blur.
Aims on one H200: 20,000 images/s, 100 epochs in under 5 minutes, kNN 83 %, linear 85.5 %.

The parts are the pipeline's own: backbone, projector, NT-Xent and batched views. What is different here: all images
lie in the GPU's memory as uint8, the order is drawn there, forward, backward and optimiser are one CUDA graph, and
the host never waits within an epoch. Needs torch, numpy, timm, scikit-learn, and pydantic and ruamel.yaml
for the parameters of backbones; Pillow where image files are read.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.networks.backbone import build_backbone
from reprise.networks.heads import Projector
from reprise.objectives.nt_xent import nt_xent
from reprise.runtime.seeds import torch_rng
from reprise.training.annealing import half_cosine
from stages.pretrain.views.batched import batched_view, normalise
from stages.pretrain.views.settings import ViewSettings

TEMPERATURE, MOMENTUM, WEIGHT_DECAY = 0.5, 0.9, 5e-4
NEIGHBOURS, KNN_TEMPERATURE = 200, 0.1
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)  # of the linear classifier; chosen on a tenth of train
Split = tuple[Tensor, Tensor]  # (n, S, S, 3) uint8, (n,) int64


# ------------------------------------------------------------------------------------------------- the data
def read_folder(folder: Path) -> tuple[Split, Split]:
    """train/<class>/* and test/<class>/* of one size; only here Pillow is needed."""
    from PIL import Image

    def pixels(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))

    splits = []
    classes = sorted(p.name for p in (folder / "train").iterdir() if p.is_dir())
    for split in ("train", "test"):
        named = [
            (path, number) for number, name in enumerate(classes) for path in sorted((folder / split / name).iterdir())
        ]
        with ThreadPoolExecutor() as pool:
            images = np.stack(list(pool.map(pixels, [path for path, _ in named], chunksize=256)))
        splits.append((torch.from_numpy(images), torch.tensor([number for _, number in named])))
    return splits[0], splits[1]


def read_digits(side: int) -> tuple[Split, Split]:
    """scikit-learn's digits, enlarged by repetition: for `--toy`."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = torch.from_numpy(np.rint(digits.images * 255 / 16).astype(np.uint8))
    images = grey.repeat_interleave(side // 8, 1).repeat_interleave(side // 8, 2)[..., None].repeat(1, 1, 1, 3)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    return (images[:1200], labels[:1200]), (images[1200:], labels[1200:])


def settings_for(images: Tensor) -> ViewSettings:
    """The recipe's views at the images' size, normalised by their own mean and standard deviation."""
    spread = images[:: max(1, len(images) // 10_000)]  # over all of them: files come class by class
    std, mean = torch.std_mean(spread.float() / 255, dim=(0, 1, 2), correction=0)
    chosen: dict[str, Any] = {
        "crop_scale_min": 0.2,
        "flip": True,
        "jitter": 0.5,
        "grey": 0.1,
        "blur": 0.0,
        "solarize": 0.0,
    }
    return ViewSettings(
        size=images.shape[1], channels=3, mean=tuple(mean.tolist()), std=tuple(std.clamp(min=1e-3).tolist()), **chosen
    )


# --------------------------------------------------------------------------------------------- the training
class Step:
    """Forward, backward and optimiser on two views; on a GPU captured once as a CUDA graph and replayed."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, device: str, bf16: bool) -> None:
        self.model, self.optimizer, self.device, self.bf16 = model, optimizer, device, bf16
        self.total = torch.zeros((), device=device)  # of the losses since the epoch began: read once an epoch
        self.graph: Any = None
        self.views: Tensor | None = None

    def __call__(self, views: Tensor) -> None:
        """(2B, C, S, S): all first views, then all second ones."""
        if self.graph is None:
            self._once(views)
            return
        self.views.copy_(views)
        self.graph.replay()

    def capture(self, views: Tensor) -> None:
        """Record the step; the shape of `views` is fixed from now on. Call after some steps without a graph.

        Capturing asks for some steps on a stream of its own: three more on this batch.
        """
        self.views, before = views.clone(memory_format=torch.preserve_format), self.total.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._once(self.views)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._once(self.views)
        self.graph = graph
        self.total.copy_(before)

    def _once(self, views: Tensor) -> None:
        # Without autocast's cache: a graph must not keep casts of weights that it changes later.
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            first, second = self.model(views).chunk(2)
        loss = nt_xent(first, second, TEMPERATURE)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()


def train(
    train_images: Tensor, backbone: nn.Module, settings: ViewSettings, options: argparse.Namespace, device: str
) -> tuple[list[dict[str, float]], float]:
    """The loop; returns a row an epoch, and the seconds of all of it, capturing included."""
    bf16, on_gpu = options.precision == "bf16", device == "cuda"
    model = nn.Sequential(backbone, Projector([backbone.num_features, *options.projector]))
    model = model.to(device, memory_format=torch.channels_last).train()
    peak = 0.06 * options.batch / 256
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=torch.tensor(peak, device=device),  # a graph reads a tensor anew at each replay
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        fused=True,  # the other implementations would fetch that tensor to the host in every step
    )
    rate = optimizer.param_groups[0]["lr"]
    step = Step(torch.compile(model) if options.compile else model, optimizer, device, bf16)
    images = train_images.to(device)
    batches = len(images) // options.batch  # the last, smaller batch is left out: a graph has one shape
    order_rng = torch.Generator(device).manual_seed(options.seed)
    steps, done, curve = options.epochs * batches, 0, []
    began = time.perf_counter()
    for epoch in range(options.epochs):
        started = time.perf_counter()
        step.total.zero_()
        order = torch.randperm(len(images), generator=order_rng, device=device)[: batches * options.batch]
        for number, rows in enumerate(order.split(options.batch)):
            rate.fill_(peak * half_cosine(done, steps))
            pixels = images[rows]
            seeds = (torch_rng(options.seed, "views", epoch, number, view) for view in range(2))
            views = torch.cat([batched_view(pixels, settings, rng, device) for rng in seeds])
            step(views.contiguous(memory_format=torch.channels_last))
            done += 1
            if on_gpu and options.graph and step.graph is None and done == 3:
                step.capture(views)
        loss = float(step.total) / batches  # the only wait of an epoch
        seconds = time.perf_counter() - started
        curve.append(
            {"epoch": epoch + 1, "loss": round(loss, 4), "images_per_second": round(batches * options.batch / seconds)}
        )
        print(f"epoch {epoch + 1}: loss {loss:.4f}, {curve[-1]['images_per_second']:,} images/s", flush=True)
        if not math.isfinite(loss):
            raise SystemExit("the loss is not finite")
    return curve, time.perf_counter() - began


# ------------------------------------------------------------------------------------------- the evaluation
@torch.no_grad()
def features(backbone: nn.Module, images: Tensor, settings: ViewSettings, device: str) -> Tensor:
    """(n, d) float32 of the images themselves, in fp32."""
    backbone.eval()
    found = []
    for part in images.split(1000):
        x = part.to(device).permute(0, 3, 1, 2).float() / 255
        found.append(backbone(normalise(x, settings)))
    return torch.cat(found)


def knn(bank: Tensor, labels: Tensor, asked: Tensor, k: int) -> Tensor:
    """Weighted vote of the k most similar by cosine (Wu et al. 2018): (m,) predicted classes."""
    bank, asked = F.normalize(bank, dim=1), F.normalize(asked, dim=1)
    found = []
    for part in asked.split(1000):
        similarity, row = (part @ bank.T).topk(k, dim=1)
        votes = torch.zeros(len(part), int(labels.max()) + 1, device=bank.device)
        found.append(votes.scatter_add_(1, labels[row], (similarity / KNN_TEMPERATURE).exp()).argmax(1))
    return torch.cat(found)


def linear(x: Tensor, y: Tensor, penalty: float) -> Callable[[Tensor], Tensor]:
    """Softmax regression on standardised features to convergence by L-BFGS; returns x -> predicted classes."""
    std, mean = torch.std_mean(x, dim=0)
    std = std.clamp(min=1e-6)
    weight = torch.zeros(x.shape[1], int(y.max()) + 1, device=x.device, requires_grad=True)
    bias = torch.zeros(weight.shape[1], device=x.device, requires_grad=True)
    scaled = (x - mean) / std
    solver = torch.optim.LBFGS([weight, bias], max_iter=300, history_size=20, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(scaled @ weight + bias, y) + penalty / 2 * (weight**2).sum()
        loss.backward()
        return loss

    solver.step(objective)
    return lambda other: (((other - mean) / std) @ weight + bias).detach().argmax(1)


def accuracy_of_linear(bank: Tensor, labels: Tensor, asked: Tensor, truth: Tensor) -> tuple[float, float]:
    """Test accuracy at the penalty that is best on a tenth of train, and that penalty."""
    held_out = torch.arange(len(bank), device=bank.device) % 10 == 0
    scores = {
        p: float((linear(bank[~held_out], labels[~held_out], p)(bank[held_out]) == labels[held_out]).float().mean())
        for p in PENALTIES
    }
    best = max(scores, key=lambda p: scores[p])
    return float((linear(bank, labels, best)(asked) == truth).float().mean()), best


class Utilisation:
    """Mean of what nvidia-smi says of our GPU each second while the block runs; None without it."""

    def __enter__(self) -> Self:
        command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop=1"]
        if torch.cuda.is_available():
            command.append(f"--id=GPU-{torch.cuda.get_device_properties(0).uuid}")
        try:
            self.process: Any = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        except OSError:
            self.process = None
        self.mean: float | None = None
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.terminate()
            said = [int(line) for line in self.process.communicate()[0].split() if line.isdigit()]
            self.mean = sum(said) / len(said) if said else None


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train/<class>/* and test/<class>/*")
    parser.add_argument("--toy", action="store_true", help="digits, a tiny network, two epochs, on the CPU")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--projector", type=int, nargs="+", default=[1024, 128])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile: faster steps after a minute of compiling"
    )
    parser.add_argument("--no-graph", dest="graph", action="store_false", help="no CUDA graph: launch every kernel")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    if not options.toy and (options.data is None or not torch.cuda.is_available()):
        parser.error("give --data FOLDER on a machine with a CUDA device, or --toy")
    if options.toy:
        options.backbone, options.epochs, options.batch, options.projector = "resnet_tiny", 2, 128, [32, 16]
    device = "cpu" if options.toy else "cuda"
    if device == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    began = time.perf_counter()
    (images, labels), (test_images, truth) = read_digits(16) if options.toy else read_folder(options.data)
    read = time.perf_counter() - began
    settings = settings_for(images)
    torch.manual_seed(options.seed)
    backbone = build_backbone(options.backbone, 3, settings.size, "small" if not options.toy else "auto")
    with Utilisation() as utilisation:
        curve, seconds = train(images, backbone, settings, options, device)
    bank, asked = (features(backbone, x, settings, device) for x in (images, test_images))
    labels, truth = labels.to(device), truth.to(device)
    linear_accuracy, penalty = accuracy_of_linear(bank, labels, asked, truth)
    speeds = [row["images_per_second"] for row in curve]
    found = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "backbone": options.backbone,
        "epochs": options.epochs,
        "batch": options.batch,
        "precision": options.precision,
        "cuda_graph": device == "cuda" and options.graph,
        "compiled": options.compile,
        "seconds": {"reading": round(read, 1), "training": round(seconds, 1)},
        "images_per_second": {"median": float(np.median(speeds)), "low": min(speeds), "high": max(speeds)},
        "utilisation": utilisation.mean,
        "knn": round(float((knn(bank, labels, asked, min(NEIGHBOURS, len(bank))) == truth).float().mean()), 4),
        "linear": round(linear_accuracy, 4),
        "linear_penalty": penalty,
        "curve": curve,
    }
    print(json.dumps({k: v for k, v in found.items() if k != "curve"}, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
