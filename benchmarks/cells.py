"""Time of a training step, cell against cell.

`python benchmarks/cells.py objective=next_token,teacherless …` takes the words of `forethought train -m`.
Words after a `--` make further cells: `COMMON -- model=gpt model.layers=4 -- model=pretrained
model.name=PATH`. The cells take turns in one process, fp32, eager and on one thread unless the words say
otherwise; all are compared with the first one.
"""

from __future__ import annotations

import statistics
import sys
from functools import partial
from importlib.util import find_spec
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from measuring import Section, ratios, spread, table, take_turns
from product import G25, Product, gpt

from forethought.config import Composer
from forethought.errors import Impossible
from forethought.models.compiled_block import MAX_WIDTH
from forethought.models.gpt import attention

PLAIN = ["seed=0", "hardware=cpu", "hardware.compile=false", "hardware.threads=1"]
MODELS = [*G25, "--", "model=gpt,looped_gpt,infini_gpt,lstm,mamba,mamba2", "model.layers=4", "model.width=96"]
OBJECTIVES = [
    "experiment=quickstart",
    "objective=next_token,any_order,belief_state,best_of_k,decision_only,future_summary,joint_multi_token,"
    "full_sequence,lookahead_insertion,masked_diffusion,masked_next_token,multi_token,myopic,next_latent,plan_tokens,"
    "policy_gradient,ranking_into_the_future,register_tokens,scheduled_sampling,sequential_multi_token,"
    "teacherless,token_order",
]
WIDTHS, ATTENTION_SHAPE = (32, 64, 128, 384), (256, 6, 31, 64)


def compare(words: list[str], steps: int = 10, rounds: int = 5) -> str:
    """Return a table of the cells that the words make."""
    common, *groups = " ".join(words).split(" -- ")
    products: dict[str, Product] = {}
    for group in groups or [""]:
        for cell in Composer([*PLAIN, *common.split(), *group.split()], is_sweep=True).cells():
            try:
                products[f"`{cell.choices['model']}`, `{cell.choices['objective']}`"] = Product(cell)
            except Impossible as error:
                print(f"skipped: {error}", file=sys.stderr)
    calls = {name: partial(product.fit, steps) for name, product in products.items()}
    seconds = take_turns(calls, rounds)
    first = next(iter(seconds.values()))
    rows = [
        [
            name,
            f"{sum(p.numel() for p in products[name].objective.parameters() if p.requires_grad):,}",
            f"{1000 / steps * statistics.median(durations):.1f}",
            spread(ratios(durations, first)),
        ]
        for name, durations in seconds.items()
    ]
    return table(["cell", "parameters", "seconds per 1,000 steps", "times the first (least to most)"], rows)


def measure_models(tiny: bool = False) -> Section:
    words = [*MODELS[:-2], "model.layers=1", "model.width=16"] if tiny else MODELS
    with TemporaryDirectory() as folder:
        if find_spec("transformers"):
            from transformers import GPT2Config, GPT2LMHeadModel

            # GPT-2 at the size of the other models; its weights do not matter here.
            config = GPT2Config(vocab_size=64, n_positions=64, n_embd=96, n_layer=4, n_head=4)
            GPT2LMHeadModel(config).save_pretrained(folder)
            words = [*words, "--", "model=pretrained", f"model.name={folder}"]
        compared = compare(words, *(1, 1) if tiny else ())
    return Section(
        "Models: a training step as a multiple of the GPT's",
        "Next-token prediction, 4 layers × 96, 64 rows of G(2,5); `looped_gpt` passes its 4 blocks 3 times, "
        "`pretrained` (where transformers is installed) is a GPT-2 of this size. "
        f"`python benchmarks/cells.py {' '.join(MODELS)}`",
        compared,
    )


def measure_objectives(tiny: bool = False) -> Section:
    words = ["experiment=smoke", "objective=next_token,teacherless"] if tiny else OBJECTIVES
    return Section(
        "Objectives: a training step as a multiple of next-token prediction's",
        "The quickstart's GPT and graph, 64 rows a step. `best_of_k` and `policy_gradient` train on 8 "
        f"samples a row, so on 512. `python benchmarks/cells.py {' '.join(OBJECTIVES)}`",
        compare(words, *(1, 1) if tiny else ()),
    )


def attention_ratio(rounds: int) -> float:
    """Return the time of the fused kernel over that of attention written out: bf16, forward and backward."""
    torch.set_num_threads(1)
    leaves = [torch.randn(ATTENTION_SHAPE, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
    calls = {
        "fused": lambda: F.scaled_dot_product_attention(*leaves, is_causal=True).sum().backward(),
        "written out": lambda: attention(*leaves, attention_mask=None).sum().backward(),
    }
    take_turns(calls, 2)
    seconds = take_turns(calls, rounds)
    return ratios(seconds["fused"], seconds["written out"])[0]


def measure_auto(tiny: bool = False) -> Section:
    """Measure the choices of `hardware=auto`, by the width of the model."""
    before, rounds, rows = torch.get_num_threads(), 1 if tiny else 5, []
    choices = {
        "plain": [],
        "2 threads": ["hardware.threads=2"],
        "blocks in C++": ["hardware.compile=blocks"],
        "blocks, 2 threads": ["hardware.compile=blocks", "hardware.threads=2"],
        "bf16": ["precision=bf16"],
    }
    if not tiny:
        choices["compiled"] = ["hardware.compile=true"]
    for width in WIDTHS[:1] if tiny else WIDTHS:
        steps = 2 if tiny or width > 200 else 10
        size = [*gpt(2, width, 4), f"batch_size={8 if tiny else 64}"]
        products = {
            name: Product.of(*PLAIN[1:], *G25, *size, *words)
            for name, words in choices.items()
            if "blocks" not in name or width <= MAX_WIDTH
        }
        seconds = take_turns({name: partial(one.fit, steps) for name, one in products.items()}, rounds)
        milliseconds = 1000 / steps * statistics.median(seconds["plain"])
        faster = [
            spread(ratios(seconds["plain"], seconds[name])) if name in seconds else "–"
            for name in list(choices)[1:]
        ]
        rows.append([width, f"{milliseconds:.1f}", *faster])
    longer = attention_ratio(rounds)
    torch.set_num_threads(before)
    return Section(
        "What `auto` stands for",
        "Threads, blocks in C++, precision and compiling: times as fast as PyTorch's operations in fp32 on "
        "one thread. GPT of 2 layers, 64 rows of G(2,5) a step. In fp32, `auto` takes blocks in C++ up to "
        f"width {MAX_WIDTH}. Otherwise, on a CPU with AVX-512, it compiles runs of 2e13 FLOP or more from "
        "width 64 on. It takes more threads from 5e9 FLOP a step on, and with blocks in C++ from 1e8; it "
        "never changes the precision. On a CPU, bf16 attention is written out: the fused kernel takes "
        f"**{longer:.1f}** times as long forward and backward ({' × '.join(map(str, ATTENTION_SHAPE))}).",
        table(["width", "plain, ms a step", *list(choices)[1:]], rows),
    )


if __name__ == "__main__":
    print(compare(sys.argv[1:]))
