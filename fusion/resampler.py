"""A pooling resampler: a fixed number of learned queries read the patches by attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusion.adapter import ImageFeatures, SoftTokens, check_features
from fusion.errors import FusionError


class PoolingResampler(nn.Module):
    """One block of cross attention from `tokens` learned queries to the patches.

    After the perceiver resampler (Flamingo: Alayrac et al., arXiv:2204.14198) and Qwen-VL's
    adapter (Bai et al., arXiv:2308.12966): norms before, residual feed-forward after. A picture
    costs the language model `tokens` places however many patches it has.
    """

    def __init__(self, encoder: str, dim: int, hidden: int, tokens: int = 16, heads: int = 8):
        super().__init__()
        if hidden % heads:
            raise FusionError(
                f"expected a hidden size that {heads} heads divide, but got {hidden}; "
                "choose another number of heads"
            )
        self.encoder, self.dim, self.heads = encoder, dim, heads
        self.queries = nn.Parameter(torch.randn(tokens, hidden) * hidden**-0.5)
        self.patch_norm = nn.LayerNorm(dim)
        self.query_norm = nn.LayerNorm(hidden)
        self.to_query = nn.Linear(hidden, hidden)
        self.to_key = nn.Linear(dim, hidden)
        self.to_value = nn.Linear(dim, hidden)
        self.out = nn.Linear(hidden, hidden)
        self.feed_norm = nn.LayerNorm(hidden)
        self.feed = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden)
        )

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], encoder: str, heads: int) -> PoolingResampler:
        """Rebuild a resampler from its own tensors; FusionError if they do not fit together."""
        try:
            tokens, hidden = tensors["queries"].shape
            resampler = cls(encoder, tensors["to_key.weight"].shape[1], hidden, tokens, heads)
            resampler.load_state_dict(tensors)
        except (KeyError, RuntimeError, ValueError) as problem:
            raise FusionError(
                f"expected the tensors of a pooling resampler, but {problem}; train it again"
            ) from None
        return resampler.eval().requires_grad_(False)

    def forward(self, patches: Tensor) -> Tensor:
        """Map patches (n, dim) to soft tokens (tokens, hidden)."""
        rows = self.patch_norm(patches)
        query, key, value = (
            flat.view(flat.shape[0], self.heads, -1).transpose(0, 1)  # (heads, rows, width)
            for flat in (
                self.to_query(self.query_norm(self.queries)),
                self.to_key(rows),
                self.to_value(rows),
            )
        )
        read = F.scaled_dot_product_attention(query, key, value).transpose(0, 1).flatten(1)
        tokens = self.queries + self.out(read)
        result: Tensor = tokens + self.feed(self.feed_norm(tokens))
        return result

    def __call__(self, features: ImageFeatures) -> SoftTokens:
        """The picture's soft tokens; FusionError for another encoder's features."""
        check_features(features, self.encoder, self.dim)
        with torch.inference_mode():
            return SoftTokens(self.forward(features.patches.to(self.queries)))
