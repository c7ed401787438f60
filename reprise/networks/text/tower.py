"""A small transformer over tokens: the text tower of CLIP.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 2.4:
causal attention, learned positions, and the features of a text are those at its end, after the last normalisation.
Authors' code: openai/CLIP.

Shape legend: B texts, L tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reprise.config.errors import BackboneError
from reprise.networks.small.small_vit import Block
from reprise.networks.text.tokenizer import END


class TextTower(nn.Module):
    """Turns tokens into one vector a text.

    Args:
        vocabulary: number of tokens.
        length: L, the largest number of tokens of a text, start and end included.
        width: D.
        depth: number of blocks.
        heads: of the attention; must divide the width.

    Raises:
        BackboneError: the heads do not divide the width.
    """

    def __init__(self, vocabulary: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise BackboneError(
                "the heads of a text tower must divide its width",
                where="text_width, text_heads",
                found=f"width {width} with {heads} heads",
                fix="Choose a width that is a multiple of the heads.",
            )
        self.num_features, self.length = width, length
        self.token_embed = nn.Embedding(vocabulary, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, length, width))
        self.blocks = nn.Sequential(*[Block(width, heads, causal=True) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.normal_(self.token_embed.weight, std=0.02)
        nn.init.normal_(self.pos_embed, std=0.01)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) int64 -> (B, D): the features at the sign of the end, which sees all tokens before it."""
        x = self.token_embed(tokens) + self.pos_embed[:, : tokens.shape[1]]
        x = self.norm(self.blocks(x))
        ends = (tokens == END).int().argmax(dim=1)
        return x[torch.arange(len(x), device=x.device), ends]
