# SPDX-License-Identifier: MIT
"""Run a command until its output has a text: `python3 -I -S marker.py TEXT COMMAND...`.

It stands in for a person who waits for a guest's prompt and ends QEMU; so it costs next to nothing.
"""

from __future__ import annotations

import io
import subprocess
import sys


def main(text: str, command: list[str]) -> int:
    """Return 0 once `text` has come, after the command's end; 1 if it ends without that."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert isinstance(process.stdout, io.BufferedReader)
    said = b""
    while text.encode() not in said:
        block = process.stdout.read1()
        if not block:
            sys.stderr.buffer.write(said)
            return 1
        said += block
    process.kill()
    process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
