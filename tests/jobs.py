"""Jobs for the tests of the pool: a module that a process imports without torch."""

import faulthandler
import os
import subprocess
import sys
import time
from pathlib import Path


def write(folder, index, seconds=0.0, code=0):
    began = time.time()
    time.sleep(seconds)
    (Path(folder) / f"{index}").write_text(f"{began} {time.time()} {os.environ.get('SLOT')} {os.getpid()}")
    return code


def speak(index):
    print(f"job {index}", end=" ")
    for word in ("says", "one", "line"):
        print(word, end=" ", flush=False)
        time.sleep(0.02)
    print()
    return 0


def die(sign):
    os.kill(os.getpid(), sign)


def remember():
    """1 if a job before this one has been here."""
    remember.before = getattr(remember, "before", -1) + 1
    return remember.before


def use_streams():
    """What libraries do with standard streams."""
    faulthandler.enable()
    faulthandler.disable()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__):
        stream.reconfigure(line_buffering=True)
        stream.buffer.write("é as bytes\n".encode())
        stream.flush()
        assert not stream.isatty()
    subprocess.run(["echo", "of a child"], stdout=sys.stdout, check=True)
    subprocess.run("echo of its shell >&2", shell=True, check=True)
    os.write(1, b"of C\n")
    sys.stdout.writelines(["\N{GREEK SMALL LETTER ALPHA} and \udc80\n"])
    print("without an end", end="")
    return 0


def flood(lines):
    """Print far more than a pipe holds."""
    for _ in range(lines):
        print("x" * 100)
    return 0
