"""Views on a GPU of images of any size, which threads decode and put together ahead of the step.

Each image is decoded once an epoch, or taken from the cache; all of its views are cut from that on the GPU. A batch of
images lies in pinned memory, the smaller ones in the upper left corner, and is copied while the step before it runs.

Shape legend: B images, H W the largest height and width in the batch, C channels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from reprise.media.lookup import modality
from reprise.reading.decoded import Decoded
from reprise.runtime.device import Compute
from reprise.runtime.seeds import torch_rng
from stages.pretrain.views.device import views_on_device
from stages.pretrain.views.draws import draw_views, named, of_images
from stages.pretrain.views.made import Views
from stages.pretrain.views.settings import ViewSettings

AHEAD = 3  # batches that are read before they are asked for
CHUNK = 4  # images a task of a thread


@dataclass(frozen=True)
class Coming:
    """A batch that threads are reading.

    Attributes:
        rows: (B,) positions of its images.
        sizes: (B, 2) height and width of each.
        pixels: (B, H, W, C) uint8, in pinned memory where there is a GPU.
        tasks: done when all pixels are there.
    """

    rows: np.ndarray
    sizes: np.ndarray
    pixels: Tensor
    tasks: list[Future[None]]


class StagedViews:
    """Views of batches that are read ahead.

    Args:
        decoded: the training images.
        plan: what each view of an image is made of.
        seed: of the run.
        compute: where views are made, and how many threads read images.
        keep_drawn: whether what was drawn is wanted beside the views.
    """

    def __init__(
        self, decoded: Decoded, plan: list[ViewSettings], seed: int, compute: Compute, keep_drawn: bool = False
    ) -> None:
        self.decoded, self.plan, self.seed, self.compute, self.keep_drawn = decoded, plan, seed, compute, keep_drawn
        self.coming: deque[Coming] = deque()
        self.used: deque[torch.cuda.Event] = deque()
        self.pool = ThreadPoolExecutor(compute.threads, thread_name_prefix="read")
        modality().limit_threads()

    def __call__(self, rows: np.ndarray, epoch: int, number: int, own: np.ndarray | None = None) -> Views:
        """Make the views of one batch, or of some of its images; they do not depend on what was read ahead."""
        mine = rows if own is None else rows[own]
        if not (self.coming and np.array_equal(self.coming[0].rows, mine)):
            self.forget()
            self.coming.append(self.read(mine))
        batch = self.coming.popleft()
        for task in batch.tasks:
            task.result()
        rngs = [torch_rng(self.seed, "views", epoch, number, v) for v in range(len(self.plan))]
        tall, wide = torch.from_numpy(self.decoded.sizes[rows]).float().T
        every = draw_views(len(rows), tall, wide, self.plan, rngs)
        views = views_on_device(self.there(batch.pixels), self.plan, of_images(every, own))
        self.stay_near()
        return Views(views, named(every, self.plan) if self.keep_drawn else [])

    def expect(self, batches: Sequence[np.ndarray]) -> None:
        """Begin to read the batches that will be asked for next, in this order; those that are being read go on."""
        for place, rows in enumerate(batches[:AHEAD]):
            if place < len(self.coming) and np.array_equal(self.coming[place].rows, rows):
                continue
            while len(self.coming) > place:
                self.drop(self.coming.pop())
            self.coming.append(self.read(rows))

    def read(self, rows: np.ndarray) -> Coming:
        """Let the threads read one batch."""
        sizes = self.decoded.sizes[rows]
        shape = (len(rows), *sizes.max(axis=0).tolist(), self.decoded.channels)
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=self.compute.device == "cuda")
        canvas = pixels.numpy()

        def fill(start: int) -> None:
            for place in range(start, min(start + CHUNK, len(rows))):
                height, width = sizes[place]
                canvas[place, :height, :width] = self.decoded.image(int(rows[place]))

        tasks = [self.pool.submit(fill, start) for start in range(0, len(rows), CHUNK)]
        return Coming(rows, sizes, pixels, tasks)

    def there(self, pixels: Tensor) -> Tensor:
        """Copy a batch to the device beside the work that is queued there; the host goes on at once."""
        if self.compute.device != "cuda":
            return pixels
        with torch.cuda.stream(self.copies):
            copied = pixels.to("cuda", non_blocking=True)
        current = torch.cuda.current_stream()
        current.wait_stream(self.copies)
        copied.record_stream(current)  # its memory is used again only after the views were made
        return copied

    @cached_property
    def copies(self) -> torch.cuda.Stream:
        """The stream of the copies, apart from that of the step."""
        return torch.cuda.Stream()

    def stay_near(self) -> None:
        """Wait where the host is several batches ahead of the GPU: each holds memory on both sides."""
        if self.compute.device != "cuda":
            return
        self.used.append(torch.cuda.current_stream().record_event())
        if len(self.used) > AHEAD:
            self.used.popleft().synchronize()

    def forget(self) -> None:
        """Drop what was read ahead and is not wanted."""
        while self.coming:
            self.drop(self.coming.pop())

    def drop(self, batch: Coming) -> None:
        """Stop the reading of a batch; a task that runs ends by itself."""
        for task in batch.tasks:
            task.cancel()
