"""Measure whole training steps of small decoders on one device, to compare with predictions made before.

Needs PyTorch with CUDA: ``python tools/measure_step.py OUT.json``. The decoders are plain PyTorch: RMS norms, grouped
queries, rotary positions, SwiGLU, a head with a 32-bit loss, fused AdamW, everything in bf16, compiled.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

sys.path.insert(0, str(Path(__file__).parent))

from measure_kernels import PowerMeter

WARM_UP, STEPS = 4, 24
#: (name, layers, hidden, heads, key and value heads, width of a head, width of the MLP, vocabulary, sequence, batch).
DECODERS = (
    ("shape-8b", 8, 4096, 32, 8, 128, 14336, 128256, 8192, 1),
    ("shape-70b", 2, 8192, 64, 8, 128, 28672, 32000, 4096, 2),
    ("shape-1b", 16, 2048, 32, 8, 64, 8192, 32000, 2048, 8),
)


class Block(nn.Module):
    """One layer."""

    def __init__(self, hidden: int, heads: int, kv_heads: int, head_dim: int, ffn: int) -> None:
        super().__init__()
        self.shape = (heads, kv_heads, head_dim)
        self.attention_norm, self.mlp_norm = nn.RMSNorm(hidden), nn.RMSNorm(hidden)
        self.query_key_value = nn.Linear(hidden, (heads + 2 * kv_heads) * head_dim, bias=False)
        self.output = nn.Linear(heads * head_dim, hidden, bias=False)
        self.up, self.down = nn.Linear(hidden, 2 * ffn, bias=False), nn.Linear(ffn, hidden, bias=False)

    def forward(self, x: Any, cosine: Any, sine: Any) -> Any:
        """Residual stream in, residual stream out."""
        heads, kv_heads, head_dim = self.shape
        batch, sequence, _ = x.shape
        mixed = self.query_key_value(self.attention_norm(x)).view(batch, sequence, -1, head_dim).transpose(1, 2)
        query, key, value = mixed.split((heads, kv_heads, kv_heads), dim=1)
        context = functional.scaled_dot_product_attention(
            _rotate(query, cosine, sine), _rotate(key, cosine, sine), value, is_causal=True, enable_gqa=True
        )
        x = x + self.output(context.transpose(1, 2).reshape(batch, sequence, heads * head_dim))
        gate, up = self.up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


def _rotate(x: Any, cosine: Any, sine: Any) -> Any:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


class Decoder(nn.Module):
    """Embedding, layers, head and loss."""

    def __init__(self, layers: int, hidden: int, heads: int, kv: int, head_dim: int, ffn: int, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.blocks = nn.ModuleList(Block(hidden, heads, kv, head_dim, ffn) for _ in range(layers))
        self.norm, self.head = nn.RMSNorm(hidden), nn.Linear(hidden, vocabulary, bias=False)

    def forward(self, tokens: Any, targets: Any, cosine: Any, sine: Any) -> Any:
        """Mean loss."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cosine, sine)
        logits = self.head(self.norm(x)).float()
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def measure(decoder: tuple[Any, ...], *, compiled: bool) -> dict[str, Any]:
    """Mean time of a step, peak memory and power."""
    name, layers, hidden, heads, kv, head_dim, ffn, vocabulary, sequence, batch = decoder
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with torch.device("cuda"):
        model = Decoder(layers, hidden, heads, kv, head_dim, ffn, vocabulary).to(torch.bfloat16)
        tokens, targets = (torch.randint(vocabulary, (batch, sequence)) for _ in range(2))
        angles = torch.outer(torch.arange(sequence), 1.0 / 500000.0 ** (torch.arange(0, head_dim, 2) / head_dim))
    cosine, sine = angles.cos().to(torch.bfloat16), angles.sin().to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    run = torch.compile(model) if compiled else model

    def step() -> None:
        run(tokens, targets, cosine, sine).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    with PowerMeter() as meter:
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - start) / STEPS
    power, clock = meter.settled()
    peak = torch.cuda.max_memory_allocated()
    parameters = sum(one.numel() for one in model.parameters())
    row = {"name": name, "compiled": compiled, "parameters": parameters, "step_s": seconds, "peak_bytes": peak,
           "power_w": power, "clock_mhz": clock}  # fmt: skip
    sys.stderr.write(f"{row}\n")
    return row


def main(arguments: list[str]) -> int:
    """Measure everything and write one JSON file after each row."""
    if len(arguments) != 1:
        sys.stderr.write("usage: measure_step.py FILE.json\n")
        return 2
    rows = []
    for compiled in (True, False):
        for decoder in DECODERS:
            try:
                rows.append(measure(decoder, compiled=compiled))
            except RuntimeError as error:  # out of memory, or no compiler: the other rows are still worth having
                sys.stderr.write(f"{decoder[0]}, compiled {compiled}: {str(error)[:300]}\n")
            answer = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}
            Path(arguments[0]).write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
