"""`forethought train / status / resume / evaluate / report / dashboard`."""

import os
import signal
import sys
from importlib import import_module

from forethought.errors import InputError, expected_one_of

USAGE = """\
usage: forethought COMMAND …

When does next-token prediction stop a sequence model from planning ahead, and what repairs it?

  train [KEY=VALUE …]           train and test one run              forethought train experiment=smoke
  train -m [KEY=V1,V2 …]        sweep a grid of runs; running it again resumes it
                                forethought train -m objective=next_token,teacherless 'seed=range(5)'
  train --help                  the choices of task, model, objective, … and every key
  status FOLDER                 where each cell of a sweep stands; --watch: until all is done; --json
  resume FOLDER                 go on with a sweep or a run
  evaluate RUN [KEY=VALUE …]    the same diagnostics on other data  task.test_file=graphs.txt
  report FOLDER [--where …]     tables, plots and one HTML page from the results on disk
  dashboard FOLDER              lay out a W&B workspace over runs with logger=wandb
  --version
"""

COMMANDS = ("train", "status", "resume", "evaluate", "report", "dashboard")
HELP = ("--help", "-h")


def main() -> None:
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code: 0, 1 if a run failed, 2 for what the user can mend, 128 + n after signal n.

    So Ctrl-C gives 130, and SIGTERM, which Slurm and `kill` send, 143.
    """
    try:
        return _dispatch(arguments)
    except InputError as error:
        print(f"forethought: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("forethought: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 128 + getattr(stop, "sign", signal.SIGINT)


def _dispatch(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    own_help = command in ("train", "report")
    if command in HELP or (command in COMMANDS and not own_help and rest and rest[0] in HELP):
        print(USAGE, end="")
        return 0
    if command == "--version":
        from forethought import __version__

        print(__version__)
        return 0
    if command not in COMMANDS:
        raise InputError(f"{command}: no such command; {expected_one_of(COMMANDS, command)}")
    # Each imports what it needs, which for most is not torch.
    module = "train" if command == "resume" else command
    code: int = getattr(import_module(f"forethought.cli.{module}"), command)(rest)
    return code
