"""A small vision transformer with timm's key names, which can hide patches or leave them out.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021: pre-normalisation, GELU, learned positions.
Weights load into timm's VisionTransformer with `strict=True` (a test holds the two against each other).

Shape legend: B images, S side, P patch side, N = (S / P)^2 patches, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.config.errors import BackboneError


def refuse_one_patch(size: int, patch_size: int, where: str) -> None:
    """Refuse a transformer whose patch is the whole image: it has nothing to attend to, to hide or to leave out.

    Args:
        size: side of the image in pixels.
        patch_size: side of a patch in pixels.
        where: the parameters that decide on it.

    Raises:
        BackboneError: there is one patch only.
    """
    if patch_size >= size:
        raise BackboneError(
            "a transformer's patch is the whole image",
            where=f"image.size, {where}",
            found=f"images of {size} pixels, patches of {patch_size}",
            fix=f"Choose patches of at most {size // 2} pixels, or larger images.",
        )


class Attention(nn.Module):
    """Multi-head self-attention; causal: a token sees those before it only."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        count, length, width = x.shape
        q, k, v = self.qkv(x).view(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(mixed.transpose(1, 2).reshape(count, length, width))


class MLP(nn.Module):
    """Two layers with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each after a layer normalisation and beside a shortcut."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads, causal)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Non-overlapping patches, projected."""

    def __init__(self, channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, N, D)."""
        return self.proj(x).flatten(2).transpose(1, 2)


class SmallViT(nn.Module):
    """Vision transformer for small images.

    Args:
        channels: C, bands of the images.
        size: S at which positions are learned, in pixels; other sides interpolate them.
        patch_size: P in pixels, which must divide every side.
        width: D.
        depth: number of blocks.
        heads: of the attention; must divide the width.
        pool: `token` (the class token) or `avg` (the mean of the patches), after the last normalisation.

    Raises:
        BackboneError: the patch does not divide the side, or is the whole image; or the heads do not divide the width.
    """

    num_prefix_tokens = 1  # timm's name for the tokens that stand for no place: the class token

    def __init__(
        self,
        channels: int = 3,
        size: int = 16,
        patch_size: int = 4,
        width: int = 96,
        depth: int = 4,
        heads: int = 3,
        pool: str = "token",
    ) -> None:
        super().__init__()
        if size % patch_size or width % heads:
            raise BackboneError(
                "a transformer's patches must fill the image and its heads the width",
                where="image.size, patch_size, width, heads",
                found=f"images of {size} with patches of {patch_size}, width {width} with {heads} heads",
                fix="Choose a patch size that divides image.size and a width that is a multiple of heads.",
            )
        refuse_one_patch(size, patch_size, "patch_size")
        self.num_features, self.patch_size, self.pool = width, patch_size, pool
        self.patch_embed = PatchEmbed(channels, patch_size, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch_size) ** 2, width))
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def positions(self, patches: int) -> Tensor:
        """Return the learned grid as (1, patches, D), interpolated where the image has another side."""
        grid = self.pos_embed[:, 1:]
        if grid.shape[1] == patches:
            return grid
        side, wanted = math.isqrt(grid.shape[1]), math.isqrt(patches)
        plane = grid.transpose(1, 2).reshape(1, -1, side, side)
        plane = F.interpolate(plane, size=(wanted, wanted), mode="bicubic", align_corners=False)
        return plane.flatten(2).transpose(1, 2)

    def tokens(self, x: Tensor, hidden: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
        """Embed patches with their positions: (B, C, S, S) -> (B, N, D).

        Args:
            hidden: (B, N) bool; these patches are replaced by `mask_token` (D,) before positions are added.
        """
        patches = self.patch_embed(x)
        if hidden is not None and mask_token is not None:
            patches = torch.where(hidden[..., None], mask_token.to(patches.dtype), patches)
        return patches + self.positions(patches.shape[1])

    def encode(self, tokens: Tensor) -> Tensor:
        """Apply all blocks and the last normalisation: (B, M, D) tokens -> (B, 1 + M, D), the class token first."""
        first = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        return self.norm(self.blocks(torch.cat([first, tokens], dim=1)))

    def forward_features(self, x: Tensor) -> Tensor:
        """Compute all tokens, the class token first: (B, C, S, S) -> (B, 1 + N, D), as timm's networks do."""
        return self.encode(self.tokens(x))

    def pooled(self, encoded: Tensor) -> Tensor:
        """Pool encoded tokens: (B, 1 + M, D) -> (B, D)."""
        return encoded[:, 0] if self.pool == "token" else encoded[:, 1:].mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S, S) -> (B, D)."""
        return self.pooled(self.forward_features(x))
