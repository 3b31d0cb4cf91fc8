"""`forethought train` against others' training of a GPT of the same size, on a CPU.

Hugging Face's `Trainer` with GPT-2, x-transformers' wrapper in a plain loop, and the plain loop of
`plain.py`; the extra `bench` brings the first two. All read the same rows and take the same steps of AdamW.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from measuring import Section, product_rate, ratios, spread, table, take_turns
from plain import PlainLoop, new_model
from product import G25, Product, gpt
from torch.utils.flop_counter import FlopCounterMode

from forethought.hardware import available_cores
from forethought.tasks import Draws, PathStar

ROWS, BATCH = 20_000, 64
SIZES = [(3, 32, 4), (2, 64, 4), (4, 128, 4), (6, 384, 6)]  # layers, width, heads
SECONDS = 3.0  # of a stretch, by the plain loop's rate
_WARM_UP = 3
_IGNORED = -100  # target of a token without a loss


def texts(task: PathStar) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens of rows, and their targets: those of the answer."""
    rows = task.sample(ROWS, Draws(0))
    tokens = torch.cat([rows.prompt, rows.answer], 1)
    return tokens, tokens.clone().index_fill_(1, torch.arange(task.prompt_length), _IGNORED)


class HuggingFace:
    """GPT-2 in Hugging Face's Trainer, with its defaults but for dropout, which nobody else has."""

    def __init__(self, task: PathStar, size: tuple[int, int, int], bf16: bool = False) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        layers, width, heads = size
        tokens, targets = texts(task)
        self.rows = [
            {"input_ids": row, "labels": target} for row, target in zip(tokens, targets, strict=True)
        ]
        self.bf16 = bf16
        torch.manual_seed(0)
        self.model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=len(task.vocabulary),
                n_positions=tokens.shape[1],
                n_embd=width,
                n_layer=layers,
                n_head=heads,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=0,
                eos_token_id=0,
            )
        )

    def fit(self, steps: int) -> float:
        """Train from the present weights and return the seconds of `steps` steps, without the set-up."""
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        times: dict[int, float] = {}

        class Watch(TrainerCallback):
            def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
                times[state.global_step] = time.perf_counter()

        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                max_steps=_WARM_UP + steps,
                per_device_train_batch_size=BATCH,
                learning_rate=1e-3,
                logging_steps=50,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                bf16=self.bf16,
            )
            trainer = Trainer(self.model, arguments, train_dataset=self.rows, callbacks=[Watch()])
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return times[_WARM_UP + steps] - times[_WARM_UP]


class XTransformers:
    """x-transformers' decoder in its wrapper, in the loop that its README has."""

    def __init__(self, task: PathStar, size: tuple[int, int, int], bf16: bool = False) -> None:
        from x_transformers import AutoregressiveWrapper, Decoder, TransformerWrapper

        layers, width, heads = size
        tokens, _ = texts(task)
        self.loader = torch.utils.data.DataLoader(tokens, batch_size=BATCH, shuffle=True, drop_last=True)
        self.bf16 = bf16
        torch.manual_seed(0)
        decoder = Decoder(dim=width, depth=layers, heads=heads, attn_dim_head=width // heads, attn_flash=True)
        self.model = AutoregressiveWrapper(
            TransformerWrapper(
                num_tokens=len(task.vocabulary), max_seq_len=tokens.shape[1], attn_layers=decoder
            )
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)

    def batches(self) -> Iterator[torch.Tensor]:
        while True:
            yield from self.loader

    def fit(self, steps: int) -> float:
        batches = self.batches()
        times = []
        for _ in range(_WARM_UP + steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                loss = self.model(next(batches))
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            loss.item()
            times.append(time.perf_counter())
        return times[-1] - times[_WARM_UP - 1]


def on_all_cores(call: Callable[[], object]) -> object:
    """Call with as many threads as there are cores; `forethought train` sets its own number."""
    torch.set_num_threads(available_cores())
    return call()


def flop_of(plain: PlainLoop) -> int:
    """Return the FLOP of a step that computes every position of every layer."""
    with FlopCounterMode(display=False) as counter:
        plain.step()
    return int(counter.get_total_flops())


def measure(tiny: bool = False) -> Section:
    """Compare in fp32, and in bf16 where this machine computes it faster."""
    fast_bf16 = bool(torch.cpu.get_capabilities().get("amx_bf16"))
    task = PathStar(degree=2, path_length=5, num_nodes=50)
    rows: list[list[object]] = []
    rounds = 1 if tiny else 7
    for precision in ["fp32", *["bf16"] * fast_bf16]:
        bf16 = precision == "bf16"
        dtype = torch.bfloat16 if bf16 else torch.float32
        for size in [(1, 16, 2)] if tiny else SIZES:
            words = ["hardware=cpu", f"precision={precision}", f"batch_size={BATCH}", *G25, *gpt(*size)]
            product = Product.of(*words)
            plain = PlainLoop(task, new_model(task, *size), BATCH, dtype if bf16 else None)
            flop = flop_of(plain)
            on_all_cores(partial(plain.steps, _WARM_UP))
            began = time.perf_counter()
            plain.steps(_WARM_UP)
            steps = 2 if tiny else max(5, round(SECONDS / (time.perf_counter() - began) * _WARM_UP))
            calls = {
                "hf": HuggingFace(task, size, bf16).fit,
                "x": XTransformers(task, size, bf16).fit,
                "plain": plain.steps,
            }
            turns = {name: partial(on_all_cores, partial(call, steps)) for name, call in calls.items()}
            turns["ours"] = partial(product.fit, steps)
            take_turns(turns, 1)
            seconds = take_turns(turns, rounds)
            torch.set_num_threads(available_cores())
            most = product_rate(2048, dtype)
            ms = {name: 1000 / steps * statistics.median(times) for name, times in seconds.items()}
            name = f"{size[0]} × {size[1]}"
            share = {name: f"{flop / most / ms[name] * 1000:.2f}" for name in ("hf", "ours")}
            against = ratios(seconds["hf"], seconds["ours"])
            others = [spread(ratios(seconds[peer], seconds["ours"])) for peer in ("x", "plain")]
            shares = [share["hf"], share["ours"], f"{most / 1e9:.0f}"]
            rows.append(
                [name, precision, *(f"{t:.1f}" for t in ms.values()), spread(against), *others, *shares]
            )
    header = ["GPT", "precision", "HF Trainer, ms", "x-transformers", "plain loop", "`forethought train`"]
    header += ["HF / ours", "x-transformers / ours", "plain / ours"]
    header += ["share of the ceiling: HF", "ours", "ceiling, GFLOP/s"]
    without = "" if fast_bf16 else " No bf16: this machine has no unit for it."
    return Section(
        "Training on a CPU: `forethought train` against others",
        f"G(2,5) with 50 names, next-token prediction, {BATCH} rows a step, AdamW. Hugging Face's Trainer "
        "with GPT-2, x-transformers, and a plain loop (`benchmarks/plain.py`) use all cores; `forethought "
        f"train` uses what `hardware=cpu` chose. Medians of {rounds} rounds in turns (least to most). The "
        "ceiling is the rate of a 2048³ product on all cores; a share is that of a step's FLOP, with every "
        "position of every layer computed. `forethought train` computes only those that carry a "
        f"loss.{without}",
        table(header, rows),
    )
