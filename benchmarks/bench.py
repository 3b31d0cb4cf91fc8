"""`make bench`: every benchmark, one after the other, into docs/PERFORMANCE.md and docs/performance.json.

`python benchmarks/bench.py NAME …` prints some of them and writes nothing; `--tiny` runs every line in
seconds, with figures that mean nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
from datetime import date
from pathlib import Path

import cells
import generation
import gpu
import peers
import sampler
import scaling
import startup
import torch
from measuring import Section

from forethought.hardware import available_cores

DOCS = Path(__file__).parents[1] / "docs"
PARTS = {
    "peers": peers.measure,
    "auto": cells.measure_auto,
    "gpu": gpu.measure,
    "gpu_sweeps": gpu.measure_sweeps,
    "gpu_mamba": gpu.measure_mamba,
    "generation": generation.measure,
    "sampler": sampler.measure,
    "startup": startup.measure,
    "scaling": scaling.measure,
    "models": cells.measure_models,
    "objectives": cells.measure_objectives,
}


def machine() -> str:
    capabilities = torch.cpu.get_capabilities()
    units = [name for name, key in (("AVX-512", "avx512_f"), ("AMX", "amx_bf16")) if capabilities.get(key)]
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{available_cores()} cores of {capabilities.get('cpu_name', platform.processor())} "
        f"({', '.join(units)}), {accelerator}, Python {platform.python_version()}, torch {torch.__version__}"
    )


def page(sections: list[Section]) -> str:
    head = (
        "# Measured speed\n\n"
        f"Written by `make bench` on {date.today()}: {machine()}. Ratios come from loops that take turns in "
        "one process, since machines differ and are noisy; read them before the seconds. The figures are "
        "also in [performance.json](performance.json).\n"
    )
    parts = []
    for section in sections:
        plot = f"\n![{section.title}: the table above](performance.png)\n" if section.plot else ""
        parts.append(f"## {section.title}\n\n{section.text}\n\n{section.table}\n{plot}")
    return "\n".join([head, *parts])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    every = [name for name in PARTS if not name.startswith("gpu") or torch.cuda.is_available()]
    sections = []
    for name in options.names or every:
        sections.append(PARTS[name](options.tiny))
        print(f"{sections[-1].title}\n{sections[-1].table}\n", flush=True)
    if options.names or options.tiny:
        return
    figures = {key: value for section in sections for key, value in section.figures.items()}
    (DOCS / "PERFORMANCE.md").write_text(page(sections))
    for plot in (section.plot for section in sections if section.plot):
        plot.savefig(DOCS / "performance.png", dpi=160)
    (DOCS / "performance.json").write_text(
        json.dumps({"date": str(date.today()), "machine": machine(), **figures}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
