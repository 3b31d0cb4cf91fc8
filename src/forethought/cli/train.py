"""`forethought train`: one run, or a sweep of runs."""

from __future__ import annotations

import argparse
import sys
import textwrap
from typing import Any

from forethought.config_folder import list_choices
from forethought.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _describe_groups()
    words = parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="GROUP=CHOICE or KEY=VALUE; with -m also lists"
    )
    words.completer = _complete  # type: ignore[attr-defined]
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep over all comma-separated values")
    parser.add_argument("--config-dir", metavar="DIR", help="a further folder of YAML files")
    parser.add_argument("--config-name", metavar="NAME", help="another root config than config.yaml")
    parser.add_argument("--keys", action="store_true", help="print every group, choice and key, and exit")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"), help="print the config, run nothing")
    parser.add_argument("--package", "-p", metavar="KEY", help="with --cfg: print this node alone")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    parser.add_argument("--info", "-i", metavar="WHAT", help="print facts about Hydra, such as searchpath")
    parser.add_argument("--hydra-help", action="store_true", help="print Hydra's own help")


def _describe_groups() -> str:
    """List every config group with its choices, from the names of the YAML files."""
    lines = []
    for group, choices in list_choices().items():
        lines += textwrap.wrap(f"{group}: {', '.join(choices)}", 100, subsequent_indent=" " * 6)
    return "\n  ".join(["groups and their choices (--keys lists all keys too):", *lines])


def _complete(prefix: str, parsed_args: Any, **_: Any) -> list[str]:
    from forethought.cli.completion import complete_override

    return complete_override(prefix, parsed_args.overrides or [])


def run(options: argparse.Namespace) -> int:
    from forethought.config import Composer

    if options.cfg or options.info or options.hydra_help or options.keys:
        return _show(options)
    if options.package or options.resolve:
        raise InputError("--package, --resolve: select how --cfg prints a config; use them with --cfg")
    from forethought.cli.carry_out import carry_out, carry_out_search

    composer = Composer(options.overrides, options.multirun, options.config_dir, options.config_name)
    if composer.is_sweep and (search := composer.search) is not None:
        return carry_out_search(composer, search)
    return carry_out(composer, composer.cells())


def _show(options: argparse.Namespace) -> int:
    """Let Hydra print what it is asked for."""
    from forethought.config import Composer, show

    if options.multirun:
        raise InputError("--cfg: prints one config; use it without -m")
    # Mistakes are found here first, where they are one line.
    Composer(options.overrides, False, options.config_dir, options.config_name).cells()
    flags = (
        ["--help"] * options.keys + ["--hydra-help"] * options.hydra_help + ["--resolve"] * options.resolve
    )
    for name in ("cfg", "info", "package", "config_dir", "config_name"):
        if value := getattr(options, name):
            flags.append(f"--{name.replace('_', '-')}={value}")
    sys.argv = ["forethought train", *flags, *options.overrides]
    show()
    return 0
