"""What each choice that `hardware=auto` makes is worth, by the width of the model."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch._inductor.config
import torch.nn.functional as F
from measuring import Section, ratios, spread, table, take_turns
from ours import G25, OurLoop, gpt

from forethought.models.gpt import attention

WIDTHS = [32, 64, 128, 384]
CHOICES = {
    "plain": ["hardware.precision=fp32", "hardware.compile=false", "hardware.threads=1"],
    "bf16": ["hardware.precision=bf16", "hardware.compile=false", "hardware.threads=1"],
    "bf16, compiled": ["hardware.precision=bf16", "hardware.compile=true", "hardware.threads=1"],
    "2 threads": ["hardware.precision=fp32", "hardware.compile=false", "hardware.threads=2"],
}
ROUNDS, SHAPE = 5, (256, 6, 31, 64)


def attend(way: Callable[..., torch.Tensor], leaves: list[torch.Tensor]) -> None:
    way(*leaves).sum().backward()


def attention_ratio() -> float:
    """Times that the fused kernel takes as long as attention written out: bf16, forward and backward."""
    torch.set_num_threads(1)
    leaves = [torch.randn(SHAPE, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    ways = {
        "fused": partial(F.scaled_dot_product_attention, is_causal=True),
        "written out": partial(attention, attention_mask=None),
    }
    calls = {name: partial(attend, way, leaves) for name, way in ways.items()}
    take_turns(calls, 2)
    seconds = take_turns(calls, ROUNDS)
    return ratios(seconds["fused"], seconds["written out"])[0]


def measure() -> Section:
    before = torch.get_num_threads()
    rows = []
    for width in WIDTHS:
        steps = 1 if width > 200 else 4
        loops = {
            name: OurLoop("hardware=cpu", "batch_size=256", *G25, *gpt(2, width, 4), *words)
            for name, words in CHOICES.items()
        }
        calls = {name: partial(loop.steps, steps) for name, loop in loops.items()}
        with torch._inductor.config.patch(force_disable_caches=True):  # as for the first cell of a sweep
            compiling = take_turns(calls, 1)["bf16, compiled"][0]
        take_turns(calls, 1)
        seconds = take_turns(calls, ROUNDS)
        faster = {name: ratios(seconds["plain"], found) for name, found in seconds.items()}
        milliseconds = 1000 / steps * statistics.median(seconds["plain"])
        others = [spread(found) for name, found in faster.items() if name != "plain"]
        rows.append([width, f"{milliseconds:.0f}", *others, f"{compiling:.0f}"])
    longer = attention_ratio()
    torch.set_num_threads(before)
    return Section(
        "What `auto` stands for",
        "What precision, compiling and threads are worth, one at a time: times as fast as fp32, eager, on "
        "one thread. GPT of 2 layers, 256 rows of G(2,5) a step. `auto` takes bf16 from width 64 on, where "
        "the CPU has AMX; compiles what has 2e13 FLOP before it, for the seconds that the first steps take "
        "then; and takes more threads from 5e9 FLOP a step on. On a CPU bf16 attention is written out: the "
        f"fused kernel takes **{longer:.1f}** times as long forward and backward "
        f"({' × '.join(map(str, SHAPE))}).",
        table(["width", "plain, ms a step", *list(CHOICES)[1:], "first compiled steps, s"], rows),
    )


if __name__ == "__main__":
    part = measure()
    print(part.text, part.table, sep="\n\n")
