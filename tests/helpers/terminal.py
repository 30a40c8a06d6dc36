"""Programs on a pseudoterminal, and the lines that their output leaves on its screen."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
from pathlib import Path

from tests.helpers.forked import start


class Terminal:
    """A pseudoterminal with a program on it; `read` returns what it wrote since, until a pattern or its end."""

    def __init__(self, code, folder, columns=120, **environment):
        self._outer, self._inner = pty.openpty()
        self.resize(columns)
        script = Path(folder) / "program.py"
        script.write_text(code)
        name = Path(os.ttyname(self._inner))
        self.process = start(script, cwd=folder, output=(name, name), **{"TERM": "xterm", **environment})
        self.output = ""

    def resize(self, columns):
        """Set the width; programs on it learn of it as of a window that is resized."""
        fcntl.ioctl(self._outer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read(self, until=None):
        """Return all output so far, as of when `until`, a regular expression, stands in what is new."""
        seen = len(self.output)
        while until is None or not re.search(until, self.output[seen:]):
            alive = self.process.is_alive()
            if select.select([self._outer], [], [], 0.02)[0]:
                self.output += os.read(self._outer, 65536).decode()
            elif not alive:
                break
        return self.output

    def close(self):
        """Wait for the program, and close the terminal."""
        self.read()
        self.process.join()
        os.close(self._outer)
        os.close(self._inner)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def screen(output, columns=120):
    """Return the lines that output leaves on a high screen that wraps what is too long."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[\d*[A-Z]|[^\x1b]", output):
        if part == "\n" or (column == columns and part not in "\r\x1b[K"):
            row, column = row + 1, 0
        if part == "\r":
            column = 0
        elif part.endswith("A") and len(part) > 1:
            row -= int(part[2:-1])
        elif part == "\x1b[K":
            lines[row] = lines[row][:column]
        elif part != "\n":
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
            column += 1
        lines += [""] * (row + 1 - len(lines))
    return lines
