"""The default CLIP of edge-rlp: a small image tower and a small text tower.

Image tower: convolutions with residual blocks bring 112 x 112 to 7 x 7 tokens, then learned positions, a class token, pre-LN
transformer blocks, the mean of the tokens, a layer norm, a projection without bias. Batch norms are folded away at export.
Text tower: OpenAI CLIP's causal pre-LN transformer, pooled at the end token, a projection without bias.
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


TAP_SHARE = 1.4  # length of the features of the taps beside the others


@dataclass(frozen=True)
class Config:
    """Every size of the model; saved with a checkpoint and written to config.json at export."""

    image_size: int = 112
    stem: tuple = (32, 64, 128)  # channels after each halving
    stem_blocks: tuple = (0, 1, 2)  # residual blocks of two convolutions there
    vision_width: int = 256
    vision_layers: int = 6
    vision_head: int = 32
    taps: tuple = ()  # blocks after which the tokens are looked at too, 0 being the stem
    tap_dim: int = 0  # features that come from there, behind the others; texts have zeros there
    text_width: int = 192
    text_layers: int = 4
    text_heads: int = 6
    context_length: int = 32
    vocab_size: int = 8706
    embed_dim: int = 256

    def as_dict(self):
        return asdict(self)


def unit(x):
    """Rows of length one, in operators that every runtime has."""
    return x * (x * x).sum(-1, keepdim=True).clamp(min=1e-12).rsqrt()


def quick_gelu(x):
    """OpenAI CLIP's activation, x * sigmoid(1.702 x), in the form that torch has a kernel for."""
    return F.silu(1.702 * x) * (1 / 1.702)


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
        if x.is_cuda:  # on processors the plain products are three times as fast
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.to(q.dtype))
        else:
            scores = (q * self.head_width**-0.5) @ k.transpose(-2, -1)
            y = (scores if mask is None else scores + mask).softmax(dim=-1).to(v.dtype) @ v
        return self.out_proj(y.transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x, mask=None):
        x = x + self.attention(self.ln_1(x), mask)
        return x + self.c_proj(quick_gelu(self.c_fc(self.ln_2(x))))


class Residual(nn.Module):
    """Two 3 x 3 convolutions around which the picture passes."""

    def __init__(self, channels):
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_1 = nn.BatchNorm2d(channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = self.norm_2(self.conv_2(F.relu(self.norm_1(self.conv_1(x)))))
        return F.relu(x + y)


def stem(c: Config):
    layers, before = [], 3
    for channels, blocks in zip(c.stem, c.stem_blocks):
        layers += [nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [Residual(channels) for _ in range(blocks)]
        before = channels
    return nn.Sequential(*layers, nn.Conv2d(before, c.vision_width, 3, stride=2, padding=1))


class VisionTower(nn.Module):
    """Pictures [batch, 3, side, side], already normalised -> features [batch, embed_dim], not normalised."""

    def __init__(self, c: Config):
        super().__init__()
        self.stem = stem(c)
        tokens = (c.image_size // 2 ** (len(c.stem) + 1)) ** 2
        self.class_embedding = nn.Parameter(0.02 * torch.randn(c.vision_width))
        self.positional_embedding = nn.Parameter(0.02 * torch.randn(tokens, c.vision_width))
        self.blocks = nn.ModuleList(
            Block(c.vision_width, c.vision_width // c.vision_head) for _ in range(c.vision_layers))
        self.ln_post = nn.LayerNorm(c.vision_width)
        self.proj = nn.Linear(c.vision_width, c.embed_dim, bias=False)
        self.taps = c.taps
        if c.taps:
            self.tap_proj = nn.Linear(len(c.taps) * c.vision_width, c.tap_dim)

    def positions(self, side):
        """The learned positions, drawn closer together where a picture has fewer tokens a side than the tower was made for."""
        whole = self.positional_embedding
        if side * side == len(whole):
            return whole
        full = math.isqrt(len(whole))
        grid = whole.T.reshape(1, -1, full, full)
        return F.interpolate(grid, size=(side, side), mode="bilinear", antialias=True).flatten(2)[0].T

    def embedded(self, pictures):
        """The class token and the tokens after the stem with their positions, [batch, tokens, width]."""
        x = self.stem(pictures)
        x = x.flatten(2).transpose(1, 2) + self.positions(x.shape[-1])
        return torch.cat([self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)

    def tokens(self, pictures):
        """The tokens after the stem and after each block: a list of [batch, tokens, width]."""
        every = [self.embedded(pictures)]
        for block in self.blocks:
            every.append(block(every[-1]))
        return every

    def early(self, tokens):
        """What is read of the tokens of an earlier block: their mean, of length sqrt(width)."""
        return F.layer_norm(self.mean(tokens), self.ln_post.normalized_shape)

    def mean(self, x):
        if torch.onnx.is_in_onnx_export():
            # Picks every token: it keeps tract from turning the whole tower on its side, where nothing is recognised.
            x = x.index_select(1, torch.arange(len(self.positional_embedding) + 1))
        return x.mean(dim=1)

    def pooled(self, pictures):
        """The mean of the tokens after the last layer norm, before the projection."""
        return self.ln_post(self.mean(self.tokens(pictures)[-1]))

    def forward(self, pictures):
        every = self.tokens(pictures)
        features = self.proj(self.ln_post(self.mean(every[-1])))
        if not self.taps:
            return features
        # What later blocks forget in favour of names: surfaces, materials, layout.
        early = unit(self.tap_proj(torch.cat([self.early(every[tap]) for tap in self.taps], dim=-1)))
        return torch.cat([unit(features), TAP_SHARE * early], dim=-1)


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
        self.proj = nn.Linear(c.text_width, c.embed_dim + c.tap_dim, bias=False)
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
        self.logit_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        for tower, layers in ((self.visual, c.vision_layers), (self.text, c.text_layers)):
            initialise(tower, layers)


def initialise(tower, layers):
    for name, weight in tower.named_parameters():
        if weight.dim() == 4:
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        elif weight.dim() == 2 and "embedding" not in name:
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            if name.endswith(("out_proj.weight", "c_proj.weight")):
                weight.data *= (2 * layers) ** -0.5
        elif name.endswith("bias"):
            nn.init.zeros_(weight)
        elif name.endswith("norm_2.weight"):
            nn.init.zeros_(weight)  # a residual block begins as nothing
    if hasattr(tower, "token_embedding"):
        nn.init.normal_(tower.token_embedding.weight, std=0.02)
