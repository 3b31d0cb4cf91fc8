"""Jobs for the tests of the pool: a module that a process imports without torch."""

import os
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
