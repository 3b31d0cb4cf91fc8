"""`forethought train / status / resume / evaluate / report / dashboard`."""

import os
import signal
import sys

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
    if command in HELP or (command in ("status", "resume", "evaluate") and rest and rest[0] in HELP):
        print(USAGE, end="")
        return 0
    if command == "--version":
        from forethought import __version__

        print(__version__)
        return 0
    if command == "train":
        from forethought.cli.train import train

        return train(rest)
    if command == "status":
        from forethought.cli.status import status

        return status(rest)
    if command == "resume":
        from forethought.cli.train import resume

        return resume(rest)
    if command == "evaluate":
        from forethought.cli.evaluate import evaluate

        return evaluate(rest)
    if command == "report":
        from forethought.cli.report import report

        return report(rest)
    if command == "dashboard":
        from forethought.cli.dashboard import dashboard

        return dashboard(rest)
    raise InputError(f"{command}: no such command; {expected_one_of(COMMANDS, command)}")
