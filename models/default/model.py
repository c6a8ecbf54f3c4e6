"""The default CLIP of edge-rlp: a small image tower and a small text tower, shaped exactly like CLIP's.

Image tower: a convolutional stem (64 x 64 -> 8 x 8 tokens), a class token, learned positions, pre-LN
transformer blocks, a final layer norm on the class token, a projection without bias.
Text tower: OpenAI CLIP's causal pre-LN transformer, pooled at the end token, a projection without bias.
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Every size of the model; saved with a checkpoint and written to config.json at export."""

    image_size: int = 64
    stem: tuple = (32, 64, 64)
    vision_width: int = 160
    vision_layers: int = 5
    vision_head: int = 32
    text_width: int = 128
    text_layers: int = 4
    text_heads: int = 4
    context_length: int = 32
    vocab_size: int = 2048
    embed_dim: int = 128

    def as_dict(self):
        return asdict(self)


def quick_gelu(x):
    """OpenAI CLIP's activation, x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Pre-LN transformer block: x + attention(ln_1(x)), then x + mlp(ln_2(x))."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.ln_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def attention(self, x, mask):
        batch, tokens, width = x.shape
        split = (batch, tokens, self.heads, self.head_width)
        q, k, v = (part.reshape(split).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        scores = (q * self.head_width**-0.5) @ k.transpose(-2, -1)
        y = (scores if mask is None else scores + mask).softmax(dim=-1).to(v.dtype) @ v
        return self.out_proj(y.transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x, mask=None):
        x = x + self.attention(self.ln_1(x), mask)
        return x + self.c_proj(quick_gelu(self.c_fc(self.ln_2(x))))


class VisionTower(nn.Module):
    """Pictures [batch, 3, 64, 64], already normalised -> features [batch, embed_dim], not normalised."""

    def __init__(self, c: Config):
        super().__init__()
        a, b, d = c.stem
        self.stem = nn.Sequential(
            nn.Conv2d(3, a, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(b, d, 3, stride=1, padding=1), nn.ReLU(),
            nn.Conv2d(d, c.vision_width, 3, stride=2, padding=1),
        )
        tokens = (c.image_size // 8) ** 2 + 1
        self.class_embedding = nn.Parameter(0.02 * torch.randn(c.vision_width))
        self.positional_embedding = nn.Parameter(0.02 * torch.randn(tokens, c.vision_width))
        self.ln_pre = nn.LayerNorm(c.vision_width)
        self.blocks = nn.ModuleList(
            Block(c.vision_width, c.vision_width // c.vision_head) for _ in range(c.vision_layers))
        self.ln_post = nn.LayerNorm(c.vision_width)
        self.proj = nn.Linear(c.vision_width, c.embed_dim, bias=False)

    def pooled(self, pictures):
        """The class token after the last layer norm, before the projection."""
        x = self.stem(pictures).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)
        x = self.ln_pre(x + self.positional_embedding)
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x[:, 0])

    def forward(self, pictures):
        return self.proj(self.pooled(pictures))


class TextTower(nn.Module):
    """Token ids [batch, sequence] -> features [batch, embed_dim], not normalised.

    The end token has the largest id, so the first largest id of a row marks the row that is pooled;
    whatever pads the row after it is never seen, because attention is causal.
    """

    def __init__(self, c: Config):
        super().__init__()
        self.token_embedding = nn.Embedding(c.vocab_size, c.text_width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(c.context_length, c.text_width))
        self.blocks = nn.ModuleList(Block(c.text_width, c.text_heads) for _ in range(c.text_layers))
        self.ln_final = nn.LayerNorm(c.text_width)
        self.proj = nn.Linear(c.text_width, c.embed_dim, bias=False)
        mask = torch.full((c.context_length, c.context_length), float("-inf")).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def from_embeddings(self, x, end):
        """Token embeddings [batch, sequence, width] and the position of each end token -> features."""
        tokens = x.shape[1]
        x = x + self.positional_embedding[:tokens]
        mask = self.mask[:tokens, :tokens].to(x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        x = x[torch.arange(x.shape[0], device=x.device), end]
        return self.proj(self.ln_final(x))

    def forward(self, ids):
        return self.from_embeddings(self.token_embedding(ids), ids.argmax(dim=-1))


class Clip(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.config = c
        self.visual = VisionTower(c)
        self.text = TextTower(c)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.initialise()

    def initialise(self):
        for tower, layers in ((self.visual, len(self.visual.blocks)), (self.text, len(self.text.blocks))):
            for name, weight in tower.named_parameters():
                if weight.dim() == 4:
                    nn.init.kaiming_normal_(weight, nonlinearity="relu")
                elif weight.dim() == 2 and "embedding" not in name:
                    nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
                    if name.endswith(("out_proj.weight", "c_proj.weight")):
                        weight.data *= (2 * layers) ** -0.5
                elif name.endswith("bias"):
                    nn.init.zeros_(weight)
            if hasattr(tower, "token_embedding"):
                nn.init.normal_(tower.token_embedding.weight, std=0.02)
