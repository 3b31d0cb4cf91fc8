"""The cost of a sweep before it runs: FLOPs, time on this machine and time on a GPU."""

from __future__ import annotations

import time

from forethought.sweeps import Cell

_COUNT_SECONDS, _ALL_SECONDS = 8.0, 20.0
_RATE_NAMES = {"bf16": "bf16", "fp32": "fp32 without TF32"}


def describe_cost(cells: list[Cell], runs_here: bool) -> list[str]:
    """Return a line each for FLOPs, time on this machine and time on a GPU.

    Measuring stops after some 20 seconds. The cells measured by then stand for the others.

    Args:
        runs_here: False if a launcher sends the cells to other machines, whose speed is unknown.
    """
    from forethought.report.wording import count_noun, format_flops
    from forethought.training.cost import GPU_RATE, GPU_SHARE, count_sweep
    from forethought.training.probe import seconds_of_cells

    stop_at = time.perf_counter() + _ALL_SECONDS
    cost = count_sweep(cells, at_most=_COUNT_SECONDS)
    known = [(cell, flops) for cell, flops in zip(cells, cost.flops, strict=True) if flops is not None]
    lines = []
    if known:
        how = "counted for each kind of cell"
        if cost.counted < len(cells):
            how = f"counted for {cost.counted} of {len(cells)} cells, the rest at their mean a training row"
        if uncounted := len(cells) - len(known):
            how += f"; without {count_noun(uncounted, 'cell')} whose loss fails outside a Trainer"
        total = format_flops(sum(flops for _, flops in known))
        lines.append(f"training to max_steps takes {total} FLOPs, {how}")
    if runs_here:
        seconds = seconds_of_cells(cells, cost, at_most=stop_at - time.perf_counter())
        probe = "by a probe of a few steps or rows"
        lines.append(f"at most {_format_time(seconds)} one after another on this machine, {probe}")
    if known:
        precisions = [cell.config["precision"] for cell, _ in known]
        on_gpu = sum(flops / GPU_RATE[name] for (_, flops), name in zip(known, precisions, strict=True))
        rates = [
            f"{format_flops(GPU_RATE[name])} FLOP/s in {_RATE_NAMES[name]}"
            for name in dict.fromkeys(precisions)
        ]
        lines.append(
            f"on one H100 {_format_time(on_gpu)}, at {' and '.join(rates)} ({GPU_SHARE:.0%} of the peak): an "
            "order of magnitude, and small models stay far below these rates"
        )
    return lines


def _format_time(seconds: float) -> str:
    if seconds < 7200:
        return f"{max(0.1, seconds / 60):.1f} minutes"
    return f"{seconds / 3600:,.{0 if seconds > 360_000 else 1}f} hours"
