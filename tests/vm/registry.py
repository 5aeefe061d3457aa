# SPDX-License-Identifier: MIT
"""A real registry for a guest: the program of extension registry, with a password, on the loopback."""

from __future__ import annotations

from pathlib import Path

from tasks.vm.guest import Guest

# User `me`, password `hut` (bcrypt, as htpasswd -B prints it).
HTPASSWD = "me:$2b$04$abcdefghijklmnopqrstuuZRwVjcH0I0FHDA0/4qL0pbWF60.WryS\n"
CONFIG = """\
version: 0.1
storage: {filesystem: {rootdirectory: /tmp/registry}}
http: {addr: "127.0.0.1:PORT"}
auth: {htpasswd: {realm: test, path: /mnt/sr0/htpasswd}}
"""


def lay_out(tree: Path, port: int = 5000) -> None:
    """Put its settings and its one user into the tree of a CD."""
    (tree / "registry.yml").write_text(CONFIG.replace("PORT", str(port)))
    (tree / "htpasswd").write_text(HTPASSWD)


def start(guest: Guest, port: int = 5000) -> None:
    """Start it in a guest that has the extension, and the CD at /mnt/sr0; wait until it asks for the
    password."""
    guest.run("setsid docker-registry serve /mnt/sr0/registry.yml > /tmp/registry.log 2>&1 &")
    ask = f"wget -q -O - http://127.0.0.1:{port}/v2/ 2>&1 | grep -q 401"
    guest.run(f"for i in $(seq 60); do {ask} && break; sleep 1; done; {ask}", 120)
