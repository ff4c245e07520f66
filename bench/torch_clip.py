"""CLIP written plainly in PyTorch, for `step_time.py --torch`.

The same towers, loss and recipe as `configs/clip.py`: fused query-key-value projection,
`scaled_dot_product_attention`, fused AdamW, float32 or bfloat16 autocast.
"""

import numpy as np
import torch
import torch.nn.functional as F
from ml_collections import ConfigDict
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int, num_heads: int, causal: bool):
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = (
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x):
        b, n, d = x.shape
        qkv = self.qkv(self.ln_1(x)).view(b, n, 3, self.num_heads, d // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.out(y.transpose(1, 2).reshape(b, n, d))
        y = self.mlp_in(self.ln_2(x))
        return x + self.mlp_out(y * torch.sigmoid(1.702 * y))


class TorchClip(nn.Module):
    def __init__(self, config: ConfigDict):
        super().__init__()
        image, text = config.image, config.text
        patch, width = tuple(image.patch_size), image.width
        count = 1 + np.prod(np.array(image.image_size) // patch)
        self.patch_embed = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.image_position = nn.Parameter(torch.randn(count, width) * width**-0.5)
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.image_blocks = nn.Sequential(
            *(Block(width, image.num_heads, False) for _ in range(image.depth))
        )
        self.token_embedding = nn.Embedding(text.vocab_size, text.width)
        position = torch.randn(text.context_length, text.width) * 0.01
        self.text_position = nn.Parameter(position)
        self.text_blocks = nn.Sequential(
            *(Block(text.width, text.num_heads, True) for _ in range(text.depth))
        )
        self.ln_final = nn.LayerNorm(text.width)
        self.image_projection = nn.Linear(width, config.embed_dim, bias=False)
        self.text_projection = nn.Linear(text.width, config.embed_dim, bias=False)
        self.logit_scale = nn.Parameter(-torch.log(torch.tensor(0.07)))
        for name in ("image_mean", "image_std"):
            value = torch.tensor(config[name]).view(3, 1, 1)
            self.register_buffer(name, value)

    def forward(self, image, text):
        """Returns the loss of image [B, 3, H, W] uint8 and text [B, L] int64."""
        x = self.patch_embed((image / 255 - self.image_mean) / self.image_std)
        x = x.flatten(2).transpose(1, 2)
        token = self.class_embedding.expand(len(x), 1, -1)
        x = torch.cat([token, x], dim=1) + self.image_position
        x = self.ln_post(self.image_blocks(self.ln_pre(x))[:, 0])
        y = self.text_blocks(self.token_embedding(text) + self.text_position)
        y = self.ln_final(y[torch.arange(len(y)), text.argmax(dim=-1)])
        x = F.normalize(self.image_projection(x).float(), dim=-1)
        y = F.normalize(self.text_projection(y).float(), dim=-1)
        logits = self.logit_scale.exp() * x @ y.T
        labels = torch.arange(len(x), device=x.device)
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


class TorchStep:
    """A training step for each call; asynchronous on a GPU."""

    def __init__(
        self, config: ConfigDict, image: np.ndarray, text: np.ndarray, device: str
    ):
        """Builds model and optimizer.

        Args:
          config: of CLIP; `config.model.dtype` decides on autocast.
          image: [B, H, W, C] uint8.
          text: [B, L] int32.
          device: "cpu" or "cuda".
        """
        torch.manual_seed(0)
        self.device, optim = device, config.optim
        self.half, self.clip_norm = config.model.dtype == "bfloat16", optim.clip_norm
        self.model = TorchClip(config.model).to(device)
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [dict(params=decayed), dict(params=rest, weight_decay=0.0)],
            optim.learning_rate.peak, (0.9, 0.98), 1e-6,
            optim.weight_decay, fused=True,
        )  # fmt: skip
        pixels = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
        tokens = torch.from_numpy(text.astype(np.int64))
        self.batch = pixels.to(device), tokens.to(device)

    def __call__(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            loss = self.model(*self.batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0.0, 4.6052)

    def wait(self) -> None:
        """Blocks until all steps are done."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def peak_mib(self) -> float | None:
        """Returns the peak memory of PyTorch's tensors; None on a CPU."""
        if self.device == "cpu":
            return None
        return torch.cuda.max_memory_allocated() / 2**20
