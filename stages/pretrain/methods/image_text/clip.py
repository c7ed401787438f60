"""`clip`: images and their captions in one space; each finds its partner among all of the batch.

Source: Radford, Kim, Hallacy, Ramesh, Goh et al., "Learning Transferable Visual Models From Natural Language
Supervision", ICML 2021. Authors' code: openai/CLIP (networks and weights; the training is in the paper's figure 3).

Idea: the backbone turns an image into a vector, a transformer its caption; one linear layer each brings both into one
space. There, an image should be closer to its own caption than to the others of the batch, and the other way round. The
temperature is learned, and never falls below a bound. Names of classes, written as captions, then classify images.

Deviations: small towers; the tokenizer is trained from the captions of the training images (byte pairs, as the paper's)
and saved with the run; an image with several captions shows one of them at random each time, and one without is left
out of the loss; the image is cut as `train.views` says (paper: a random square crop alone). Two images of a batch with
equal captions count as negatives of each other, as in the paper, where that is rare.

Shape legend: B batch, b pairs with a caption, n training images, C captions of an image, L tokens, d features, z common
space.

Checked by: tests/stages/pretrain/methods/test_image_text.py; docs/measurements/captions.md.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import Projector
from reprise.networks.text.tokenizer import FIRST_MERGE, LARGEST_VOCABULARY, Tokenizer, train_tokenizer
from reprise.networks.text.tower import TextTower
from reprise.objectives.image_text import image_text_loss
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.params import MethodParams, OutputWidth

FACT = "caption"
_MOST_CAPTIONS = 16  # of an image; the first ones


class ClipParams(MethodParams):
    """Parameters of `clip`."""

    output: OutputWidth = 64
    text_width: Annotated[int, Field(ge=1, le=4096), meaning("The text tower has this width.", "units")] = 64
    text_depth: Annotated[int, Field(ge=1, le=48), meaning("The text tower has this many blocks.", "blocks")] = 2
    text_heads: Annotated[
        int, Field(ge=1, le=64), meaning("Each block of the text tower attends with this many heads.", "heads")
    ] = 2
    vocabulary: Annotated[
        int,
        Field(ge=FIRST_MERGE, le=LARGEST_VOCABULARY),
        meaning("The tokenizer has at most this many tokens; 259 are single bytes and signs.", "tokens"),
    ] = 1024
    text_length: Annotated[
        int, Field(ge=4, le=512), meaning("This many tokens of a caption are read, start and end included.", "tokens")
    ] = 32
    temperature: Annotated[
        float, Field(gt=0, le=10), meaning("Similarities are divided by this temperature at the start; it is learned.")
    ] = 0.07
    temperature_min: Annotated[
        float, Field(gt=0, le=10), meaning("The learned temperature never falls below this.")
    ] = 0.01


class Clip(Method):
    """Two towers, a linear layer on each, and a learned temperature."""

    Params = ClipParams
    views: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = (FACT,)
    params: ClipParams
    projector: Projector
    tokens: Tensor
    captions: Tensor

    def __init__(self, backbone: nn.Module, params: ClipParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        texts: list[tuple[str, ...]] = list(context.facts.get(FACT, ()))
        self.tokenizer = train_tokenizer((text for row in texts for text in row[:_MOST_CAPTIONS]), params.vocabulary)
        known = bool(texts)  # a sketch, laid out before there are images, has no captions
        size = self.tokenizer.size if known else params.vocabulary
        self.tower = TextTower(size, params.text_length, params.text_width, params.text_depth, params.text_heads)
        self.text_projection = nn.Linear(params.text_width, params.output, bias=False)
        self.projector = Projector([backbone.num_features, params.output])
        self.log_scale = nn.Parameter(torch.tensor(-math.log(max(params.temperature, params.temperature_min))))
        tokens, counts = self._tokens(texts)
        self.register_buffer("tokens", tokens, persistent=False)  # (n C, L), a row a caption
        self.register_buffer("captions", counts, persistent=False)  # (n, 2): an image's first row, how many

    def _tokens(self, texts: list[tuple[str, ...]]) -> tuple[Tensor, Tensor]:
        """Cut all captions into tokens once, and note what is not read of them."""
        rows: list[list[int]] = []
        places, cut = [], 0
        for row in texts:
            found, more = self.tokenizer.rows(row[:_MOST_CAPTIONS], self.params.text_length)
            places.append((len(rows), len(found)))
            rows += found
            cut += more
        if cut:
            self.notes.append(
                f"{cut:,} of {len(rows):,} captions have more than text_length = {self.params.text_length} tokens, and "
                "the rest of each is not read."
            )
        if missing := sum(count == 0 for _, count in places):
            without = f"{missing:,} of {len(places):,} training images"
            self.notes.append(f"{without} have no caption and are left out of the loss.")
        if longer := sum(len(row) > _MOST_CAPTIONS for row in texts):
            self.notes.append(f"Of {longer:,} images, the first {_MOST_CAPTIONS} captions are used and no others.")
        tokens, counts = (torch.tensor(values, dtype=torch.int64) for values in (rows, places))
        return tokens.reshape(-1, self.params.text_length), counts.reshape(-1, 2)

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Embed images and one caption each, and let them find each other."""
        features_Bd = self.backbone(batch.views[0])
        images_Bz = self.projector(features_Bd)
        first, count = self.captions[batch.rows].unbind(dim=1)
        chosen = (torch.rand(len(count)).to(count.device) * count).long().clamp(max=(count - 1).clamp(min=0))
        has = count > 0
        texts_bz = self.text_projection(self.tower(self.tokens[(first + chosen)[has]]))
        scale = self.log_scale.exp()
        # Of a batch without captions nothing can be learned; the loss is 0, and so is every gradient.
        loss = image_text_loss(images_Bz[has], texts_bz, scale) if has.any() else 0 * (images_Bz.sum() + scale)
        return loss, {"features": features_Bd, "projections": images_Bz, "temperature": 1 / scale}

    def after_step(self, progress: float) -> None:
        """Keep the temperature above its bound."""
        with torch.no_grad():
            self.log_scale.clamp_(max=-math.log(self.params.temperature_min))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The temperature does not decay."""
        return [{"params": [self.log_scale], "weight_decay": 0.0}]

    def text_model(self) -> tuple[Tokenizer, dict[str, nn.Module], dict[str, Any]]:
        """The tokenizer, the text tower with its projection, and how to build them again."""
        params = self.params
        config = {
            "fact": FACT,
            "length": params.text_length,
            "width": params.text_width,
            "depth": params.text_depth,
            "heads": params.text_heads,
            "output": params.output,
            "temperature": float(1 / self.log_scale.detach().exp()),
        }
        return self.tokenizer, {"tower": self.tower, "projection": self.text_projection}, config
