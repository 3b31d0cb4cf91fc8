"""`forethought train / resume / status / evaluate / report / published / dashboard`."""

from __future__ import annotations

import argparse
import gc
import io
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn

from forethought.cli.streams import lost_output, open_streams
from forethought.errors import InputError, expected_one_of, explain_os_error

COMMANDS = {
    "train": "train and test one run, or a sweep of runs with -m",
    "resume": "resume a sweep or a run from its folder",
    "status": "show the state of every cell of a sweep, or of a run",
    "evaluate": "run the same diagnostics on other data",
    "report": "write tables, plots and one HTML page from the results on disk",
    "published": "list published numbers, and what runs of ours say of them",
    "dashboard": "lay out a W&B workspace over runs with logger=wandb",
}
EPILOG = """\
examples:
  forethought train experiment=smoke
  forethought train -m objective=next_token,teacherless 'seed=range(5)'   running it again resumes it
  forethought report multirun/sweep

`forethought COMMAND --help` has the options of each. Shell completion, for bash and zsh:
  eval "$(register-python-argcomplete forethought)"
"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        command = self.prog.partition(" ")[2]
        raise InputError(f"{command}: {message}; see {self.prog} --help" if command else message)


def main() -> None:
    os.environ["MPLBACKEND"] = "agg"  # matplotlib rejects an unknown backend, and opens no window here
    output = open_streams()
    code = run(sys.argv[1:])
    if reason := lost_output(output):
        print(f"forethought: standard output: {reason}; what was printed is incomplete", file=sys.stderr)
        if sys.argv[1] not in ("train", "resume"):  # runs are on disk
            code = code or 1
    gc.freeze()  # else Python looks for cycles in all modules once more, which takes up to two seconds
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Return the exit code: 0, 1 if a run failed, 2 for an error of the user, 128 + n after signal n.

    So Ctrl-C gives 130, and SIGTERM, which Slurm and `kill` send, 143.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a character that it lacks must not end a run
    try:
        return _dispatch(arguments)
    except InputError as error:
        print(f"forethought: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"forethought: {explain_os_error(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("forethought: interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 128 + getattr(stop, "sign", signal.SIGINT)


def _dispatch(arguments: list[str]) -> int:
    completing = "_ARGCOMPLETE" in os.environ
    first = arguments[0] if arguments else "--help"
    if not completing and first not in {*COMMANDS, "-h", "--help", "--version"}:
        raise InputError(f"{first}: no such command; {expected_one_of(COMMANDS, first)}")
    parser = _parser(COMMANDS if completing else {name for name in arguments[:1] if name in COMMANDS})
    if completing:
        import argcomplete

        argcomplete.autocomplete(parser)
    try:
        options, extra = parser.parse_known_args(arguments or ["--help"])
    except SystemExit as done:  # of --help
        return int(done.code or 0)
    if options.version:
        from forethought import __version__

        print(__version__)
        return 0
    # Words between flags: argparse takes the first group of positional arguments alone.
    if flags := [word for word in extra if word.startswith("-")] or (
        not hasattr(options, "overrides") and extra
    ):
        options.parser.error(f"unrecognized arguments: {' '.join(flags)}")
    if extra:
        options.overrides += extra
    code: int = import_module(f"forethought.cli.{options.command}").run(options)
    return code


def _parser(commands: set[str] | dict[str, str]) -> Parser:
    """Build the parser.

    Args:
        commands: the commands whose options are needed; only their files are imported.
    """
    parser = Parser(
        prog="forethought",
        description="When does next-token prediction stop a sequence model from planning ahead, "
        "and which objectives repair that?",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, text in COMMANDS.items():
        lazy = name not in commands
        command = subparsers.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            allow_abbrev=False,
            add_help=not lazy,
        )
        command.set_defaults(parser=command)
        if not lazy:
            import_module(f"forethought.cli.{name}").add_arguments(command)
    return parser
