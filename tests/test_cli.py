"""The command line: quick, each command with its own help, shell completion, Hydra's flags."""

import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import CONF, TINY, choices, forethought

from forethought.cli.main import COMMANDS, run
from forethought.cli.show import print_metrics


def imports_of(words):
    """Run a command in a new process. Return what it prints, and the heavy packages that it imports."""
    code = f"from forethought.cli.main import run\nrun({words})\nimport sys\n"
    code += "print(*[name for name in ('torch', 'hydra', 'lightning', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *out, packages = done.stdout.splitlines()
    return "\n".join(out) + done.stderr, packages.split()


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        ([], []),
        (["--help"], []),
        (["train", "--help"], []),
        (["status", "nowhere"], []),
        (["resume", "nowhere"], []),
        (["nothing"], []),
        (["report", "nowhere"], ["pandas"]),
    ],
    ids=str,
)
def test_nothing_heavy_is_imported_where_none_is_needed(words, accepted):
    _, packages = imports_of(words)
    assert not {*packages} - {*accepted}


def test_help_is_quick():
    """In seconds of CPU time of this process's children, the best of five: 0.03 on an idle machine."""

    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = forethought("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "forethought [-h]" in done.stdout, done.stderr
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.15


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_its_own_help(capsys, command):
    assert run([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: forethought {command}" in out
    assert COMMANDS[command][1:] in out
    if command == "train":
        for group in ("task", "model", "objective", "hydra/launcher", "experiment"):
            assert f"{group}: {', '.join(choices(group))}" in " ".join(out.split())
    assert run([command, "--nothing"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tr", ["train "]),
        ("train objective=next", ["objective=next_latent", "objective=next_token"]),
        ("train tas", [*(f"task={task}" for task in choices("task")), "task.degree="]),
        ("train task=addition task.", ["task.digits="]),
        ("train max", ["max_steps="]),
        ("train hydra/l", ["hydra/launcher=basic", "hydra/launcher=pool"]),
        ("train hydra.l", ["hydra.launcher.workers="]),
        ("status --", ["--watch", "--json"]),
        ("resume mul", ["multirun/"]),
    ],
)
def test_shell_completion(workplace, line, words):
    Path("multirun").mkdir()
    line = f"forethought {line}"
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    asked |= {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": "completions"}
    command = [sys.executable, "-c", "from forethought.cli.main import main; main()"]
    subprocess.run(command, env={**os.environ, **asked}, check=True)
    completions = Path("completions").read_text().split("\n")
    assert {*words} <= {*completions}
    assert all(word.startswith(line.rpartition(" ")[2]) for word in completions)


def test_finished_cells_are_skipped_without_torch(workplace):
    words = ["train", *TINY, "hydra.run.dir=run"]
    assert run(words) == 0
    results = Path("run/results.json")
    written = results.stat().st_mtime_ns
    out, packages = imports_of(words)
    assert results.stat().st_mtime_ns == written
    assert "finished before" in out
    assert "torch" not in packages


@pytest.mark.slow
def test_hydras_own_flags(workplace, capsys, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [*root.handlers])  # Hydra adds one, to pytest's stderr
    for words, shown in (
        (["--cfg", "job", "task.degree=7"], "degree: 7"),
        (["--cfg", "job", "-p", "task", "--resolve"], "path_length: 4"),
        (["--info", "searchpath"], str(CONF)),
        (["--hydra-help"], "hydra-help"),
        (["--keys"], "solve_threshold"),
    ):
        assert run(["train", *words]) == 0
        assert shown in capsys.readouterr().out
    assert os.listdir() == []


def test_every_config_file_says_what_it_is():
    for path in CONF.rglob("*.yaml"):
        lines = [line for line in path.read_text().splitlines() if "@package" not in line]
        assert lines[0].startswith("# "), path


def test_small_likelihoods_are_not_printed_as_zero(capsys):
    print_metrics({"test/accuracy": 0.0, "test/chance": 0.5, "test/likelihood_loop": 4.3e-9})
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]] == [
        "0.0000",
        "0.5000",
        "4.3e-09",
    ]
