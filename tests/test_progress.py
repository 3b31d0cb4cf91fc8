"""Progress of a run for people: a bar in a terminal, lines elsewhere."""

import os
import pty
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import TINY

from forethought.cli.main import run

RUN = ["train", *TINY, "hydra.run.dir=run"]


def test_lines_without_a_terminal(workplace, capsys):
    """At most one in half a minute, as such output is kept; run.log has every evaluation."""
    assert run(RUN) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("step ")]
    assert [line.partition(":")[0] for line in lines] == ["step 10 of 20"]
    log = Path("run/run.log").read_text()
    for text in (*lines, "step 20 of 20: loss ", "validation accuracy", "decision accuracy"):
        assert text in log


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_bar_in_a_terminal(workplace, monkeypatch, encoding):
    ours, theirs = pty.openpty()
    seen = []

    def read():
        with suppress(OSError):  # at its end
            while part := os.read(ours, 4096):
                seen.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with os.fdopen(theirs, "w", encoding=encoding) as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert run(RUN) == 0
    reader.join()
    os.close(ours)
    shown = b"".join(seen).decode(encoding)
    for text in ("training", "20/20", "train/loss", "val/accuracy", "val/decision_accuracy"):
        assert text in shown
    assert "step 10 of 20" not in shown
    assert "FLOPs" not in shown
