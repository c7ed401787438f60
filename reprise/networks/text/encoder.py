"""The text side of a trained run: from texts to vectors in the space that they share with images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.config.errors import BackboneError
from reprise.networks.assemble import Mismatch, check_fit, load_arrays
from reprise.networks.text.tokenizer import Tokenizer, tokenizer_from_json
from reprise.networks.text.tower import TextTower

if TYPE_CHECKING:
    from reprise.artifacts.weights.tensors import TensorFile
    from reprise.artifacts.weights.text_models import TextConfig

_FIX = "Run `dvc repro pretrain` to write it again."
_TEXTS = 256  # a pass


class TextEncoder(nn.Module):
    """A frozen text tower with its projection and its tokenizer."""

    def __init__(self, tokenizer: Tokenizer, tower: TextTower, projection: nn.Linear) -> None:
        super().__init__()
        self.tokenizer, self.tower, self.projection = tokenizer, tower, projection

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return a vector of length one for each text: (n, z) float32."""
        rows, _ = self.tokenizer.rows(texts, self.tower.length)
        tokens = torch.tensor(rows, dtype=torch.int64).reshape(-1, self.tower.length)
        parts = [self.projection(self.tower(part)) for part in tokens.split(_TEXTS)]
        return F.normalize(torch.cat(parts).float(), dim=1)


def text_encoder(config: TextConfig, weights: TensorFile, where: str) -> TextEncoder:
    """Build the text side of a run and load its weights.

    Args:
        config, weights: `read_text_model` of the run's folder.
        where: the folder, for messages.

    Raises:
        BackboneError: the tokenizer is damaged, or the weights do not fit.
    """
    try:
        tokenizer = tokenizer_from_json(config.tokenizer)
    except ValueError as error:
        raise BackboneError("the tokenizer is damaged", where=where, found=error, fix=_FIX) from error
    mismatch = Mismatch("the weights of the text side do not fit their description", where, _FIX)

    def build() -> TextEncoder:
        tower = TextTower(tokenizer.size, config.length, config.width, config.depth, config.heads)
        return TextEncoder(tokenizer, tower, nn.Linear(config.width, config.output, bias=False))

    check_fit(build, weights.tensors, mismatch)
    encoder = build()
    load_arrays(encoder, weights.read(), mismatch)
    return encoder.eval()
