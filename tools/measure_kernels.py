"""Measure matmuls, attention and memory-bound kernels of one GPU, alone and sustained, with power.

``python tools/measure_kernels.py FILE.json`` needs PyTorch with CUDA and nvidia-smi; it changes no setting of the
device. It answers two questions that kernel benchmarks leave open: how much slower are kernels that run for
seconds, when the power limit holds the clock down, and how much power does each kind of kernel draw.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BURST_REPEATS = 20
SUSTAINED_SECONDS = 5.0
REST_SECONDS = 2.0
#: Linear layers of Llama 3.1 405B and 70B on 8 tensor-parallel ranks, and of 8B on one:
#: (name, tokens, outputs, inputs).
LINEARS = (
    ("405b.query_key_value", 8192, 2304, 16384),
    ("405b.output", 8192, 16384, 2048),
    ("405b.up", 8192, 13312, 16384),
    ("405b.down", 8192, 16384, 6656),
    ("70b.up", 8192, 7168, 8192),
    ("70b.down", 8192, 8192, 3584),
    ("8b.up", 8192, 28672, 4096),
    ("8b.down", 8192, 4096, 14336),
    ("square", 8192, 8192, 8192),
)
Kernel = Callable[[], Any]


def read_power() -> tuple[float, float]:
    """Power [W] and clock of the multiprocessors [MHz]."""
    query = ["nvidia-smi", "--query-gpu=power.draw.instant,clocks.sm", "--format=csv,noheader,nounits", "--id=0"]
    words = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split(",")
    return float(words[0]), float(words[1])


class PowerMeter:
    """Samples power and clock on a thread of its own."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.samples.append(read_power())

    def __enter__(self) -> PowerMeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def settled(self) -> tuple[float, float]:
        """Median power and clock over the second half of the samples."""
        late = self.samples[len(self.samples) // 2 :] or self.samples
        return tuple(sorted(column)[len(column) // 2] for column in zip(*late, strict=True))  # type: ignore[return-value]


def time_kernel(kernel: Kernel, repeats: int) -> float:
    """Mean time of one run [s], by events of the device."""
    import torch  # pyright: ignore[reportMissingImports]

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        kernel()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def measure(name: str, kernel: Kernel, flop: float, traffic: float) -> dict[str, Any]:
    """Burst and sustained time of a kernel, with the power and clock of the sustained run."""
    for _ in range(3):
        kernel()
    time.sleep(REST_SECONDS)
    burst = min(time_kernel(kernel, BURST_REPEATS) for _ in range(3))
    repeats = max(int(SUSTAINED_SECONDS / burst / 4), 1)
    with PowerMeter() as meter:
        runs = [time_kernel(kernel, repeats) for _ in range(4)]
    power, clock = meter.settled()
    row = {"name": name, "flop": flop, "traffic": traffic, "burst_s": burst, "sustained_s": runs[-1],
           "power_w": power, "clock_mhz": clock}  # fmt: skip
    rates = (
        f"{flop / seconds / 1e12:7.1f} TFLOP/s {traffic / seconds / 1e12:6.2f} TB/s" for seconds in (burst, runs[-1])
    )
    sys.stderr.write(f"{name:28s} burst {next(rates)}  sustained {next(rates)} {power:6.1f} W {clock:6.0f} MHz\n")
    return row


def linear_kernels() -> list[tuple[str, Kernel, float, float]]:
    """Forward, data gradient and weight gradient of the linear layers."""
    import torch  # pyright: ignore[reportMissingImports]

    rows: list[tuple[str, Kernel, float, float]] = []
    for name, tokens, outputs, inputs in LINEARS:
        x, w, g = (
            torch.randn(shape, device="cuda", dtype=torch.bfloat16)
            for shape in ((tokens, inputs), (outputs, inputs), (tokens, outputs))
        )
        flop, traffic = 2.0 * tokens * outputs * inputs, 2.0 * (tokens * inputs + outputs * inputs + tokens * outputs)
        rows.append((f"{name}.forward", lambda x=x, w=w: x @ w.T, flop, traffic))
        rows.append((f"{name}.data_gradient", lambda g=g, w=w: g @ w, flop, traffic))
        rows.append((f"{name}.weight_gradient", lambda x=x, g=g: g.T @ x, flop, traffic))
    return rows


def other_kernels() -> list[tuple[str, Kernel, float, float]]:
    """Attention forward and backward, and memory-bound kernels."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]

    heads, sequence, dim = 16, 8192, 128
    q, k, v = (
        torch.randn(1, heads, sequence, dim, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3)
    )
    work = 4.0 * heads * dim * sequence * (sequence + 1) / 2
    moved = 8.0 * heads * sequence * dim
    context = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    gradient = torch.randn_like(context)

    def forward() -> Any:
        with torch.no_grad():
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def backward() -> Any:
        return torch.autograd.grad(context, (q, k, v), gradient, retain_graph=True)

    a, b = (torch.randn(8192, 16384, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    c = torch.empty_like(a)
    size = 2.0 * a.numel()
    weight = torch.ones(16384, device="cuda", dtype=torch.bfloat16)
    return [
        ("attention.forward", forward, work, moved),
        ("attention.backward", backward, 2.5 * work, 2.0 * moved),
        ("copy", lambda: c.copy_(a), 0.0, 2.0 * size),
        ("residual", lambda: torch.add(a, b, out=c), 0.0, 3.0 * size),
        ("rms_norm", lambda: functional.rms_norm(a, (16384,), weight), 0.0, 2.0 * size),
        ("silu", lambda: functional.silu(a), 0.0, 2.0 * size),
    ]


def main(arguments: list[str]) -> int:
    """Measure everything and write one JSON file."""
    if len(arguments) != 1:
        sys.stderr.write("usage: measure_kernels.py FILE.json\n")
        return 2
    import torch  # pyright: ignore[reportMissingImports]

    time.sleep(REST_SECONDS)
    idle = read_power()
    rows = [measure(*kernel) for kernel in (*linear_kernels(), *other_kernels())]
    answer = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "idle_power_w": idle[0], "rows": rows}
    Path(arguments[0]).write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    sys.stderr.write(f"idle {idle[0]:.1f} W\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
