"""`make bench`: every benchmark, one after the other, each into its block of docs/PERFORMANCE.md.

`python benchmarks/bench.py NAME …` prints some of them, and with `--write` writes them, too. `--tiny` runs
every line in seconds, with figures that mean nothing, and writes nothing.
"""

from __future__ import annotations

import argparse
import platform
import re
from datetime import date
from pathlib import Path

import answers
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

PAGE = Path(__file__).parents[1] / "docs" / "PERFORMANCE.md"
PARTS = {
    "peers": peers.measure,
    "answers": answers.measure,
    "busy": answers.measure_busy,
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
    kinds = (("AVX2", "avx2"), ("AVX-512", "avx512_f"), ("AMX", "amx_bf16"))
    units = [name for name, key in kinds if capabilities.get(key)]
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{available_cores()} cores of {capabilities.get('cpu_name', platform.processor())} "
        f"({', '.join(units)}), {accelerator}, Python {platform.python_version()}, torch {torch.__version__}"
    )


def write(name: str, section: Section) -> None:
    """Replace the block of a measurement in docs/PERFORMANCE.md, and its plot."""
    content = f"\n{date.today()}, {machine()}. {section.text}\n\n{section.table}\n\n"
    text, count = re.subn(
        f"(<!-- bench {name} -->\n).*?(<!-- end -->)",
        lambda block: block[1] + content + block[2],
        PAGE.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{PAGE} has {count} blocks <!-- bench {name} -->")
    PAGE.write_text(text, encoding="utf-8")
    if section.plot:
        section.plot.savefig(PAGE.with_name("performance.png"), dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PARTS))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--write", action="store_true", help="into docs/PERFORMANCE.md, one after the other")
    options = parser.parse_args()
    every = [name for name in PARTS if not name.startswith("gpu") or torch.cuda.is_available()]
    for name in options.names or every:
        section = PARTS[name](options.tiny)
        print(f"{section.title}\n{section.text}\n{section.table}\n", flush=True)
        if options.write and not options.tiny:
            write(name, section)


if __name__ == "__main__":
    main()
