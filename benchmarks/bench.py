"""`make bench`: every benchmark, one after the other, into docs/PERFORMANCE.md and docs/performance.json."""

from __future__ import annotations

import json
import os
import platform
from datetime import date
from pathlib import Path

import auto
import cpu
import generation
import gpu
import replicas
import sampler
import scaling
import startup
import torch
import training
from measuring import Section

from forethought.report.plots.style import DPI

DOCS = Path(__file__).parents[1] / "docs"
PARTS = [
    cpu.measure,
    auto.measure,
    *([gpu.measure] if torch.cuda.is_available() else []),
    generation.measure,
    sampler.measure,
    startup.measure,
    scaling.measure,
    training.models,
    training.objectives,
    replicas.measure,
]


def machine() -> str:
    capabilities = torch.cpu.get_capabilities()
    units = [name for name, key in (("AVX-512", "avx512_f"), ("AMX", "amx_bf16")) if capabilities.get(key)]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{len(os.sched_getaffinity(0))} cores of {capabilities.get('cpu_name', platform.processor())} "
        f"({', '.join(units)}), {gpu}, Python {platform.python_version()}, torch {torch.__version__}"
    )


def page(sections: list[Section]) -> str:
    head = (
        "# Measured speed\n\n"
        f"Written by `make bench` on {date.today()}: {machine()}. Ratios come from loops that take turns in "
        "one process, since machines differ and are noisy; read them before the seconds. The figures stand "
        "in [performance.json](performance.json) too.\n"
    )
    parts = []
    for part in sections:
        plot = f"\n![{part.title}: the table above](performance.png)\n" if part.plot else ""
        parts.append(f"## {part.title}\n\n{part.text}\n\n{part.table}\n{plot}")
    return "\n".join([head, *parts])


def main() -> None:
    sections = []
    for part in PARTS:
        sections.append(part())
        print(f"{sections[-1].title}\n{sections[-1].table}\n", flush=True)
    figures = {key: value for section in sections for key, value in section.figures.items()}
    (DOCS / "PERFORMANCE.md").write_text(page(sections))
    for plot in (section.plot for section in sections if section.plot):
        plot.savefig(DOCS / "performance.png", dpi=DPI)
    (DOCS / "performance.json").write_text(
        json.dumps({"date": str(date.today()), "machine": machine(), **figures}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
