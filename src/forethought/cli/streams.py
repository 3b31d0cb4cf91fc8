"""Standard streams that never end a run: the terminal may go away, the disk may be full."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any


class _Lossy(io.FileIO):
    """A standard stream that drops what it cannot write, and keeps the first error."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # another program made the terminal non-blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            self.error = self.error or error
            return len(data)


def open_streams() -> _Lossy:
    """Replace the standard streams of this process by ones that cannot fail. Return the raw output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed by `>&-`; the next file that is opened would become the output
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    raw = [_Lossy(1), _Lossy(2)]
    sys.stdout, sys.stderr = (_text(*pair) for pair in zip(raw, (sys.stdout, sys.stderr), strict=True))
    return raw[0]


def _text(raw: _Lossy, stream: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )


def lost_output(raw: _Lossy) -> str | None:
    """Return the reason why output was lost. None if it was not, or if nobody reads it any more."""
    sys.stdout.flush()
    if raw.error is None or raw.error.errno in (errno.EPIPE, errno.EIO):
        return None
    return raw.error.strerror
