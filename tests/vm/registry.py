# SPDX-License-Identifier: MIT
"""A real registry for a guest: Debian's docker-registry, with a password and plain http on the loopback."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tasks.config.settings import Settings
from tasks.formats import debian_package
from tasks.origins import suite
from tasks.vm.guest import Guest

# User `me`, password `hut` (bcrypt, as htpasswd -B prints it).
HTPASSWD = "me:$2b$04$abcdefghijklmnopqrstuuZRwVjcH0I0FHDA0/4qL0pbWF60.WryS\n"
CONFIG = """\
version: 0.1
storage: {filesystem: {rootdirectory: /tmp/registry}}
http: {addr: "127.0.0.1:5000"}
auth: {htpasswd: {realm: test, path: /mnt/sr0/htpasswd}}
"""


def lay_out(image: Settings, tree: Path) -> None:
    """Put the program, its settings and its one user into the tree of a CD."""
    assert image.profile.suite
    package = suite.candidates(image.profile.suite, ["docker-registry"], image.paths.cache)["docker-registry"]
    suite.fetch(image.profile.suite, [package], image.paths.cache)
    with tempfile.TemporaryDirectory() as folder:
        debian_package.unpack_deb(package.cached_in(image.paths.cache), Path(folder))
        shutil.copy(Path(folder) / "usr/bin/docker-registry", tree)
    (tree / "registry.yml").write_text(CONFIG)
    (tree / "htpasswd").write_text(HTPASSWD)


def start(guest: Guest) -> None:
    """Start it in a guest that has the CD at /mnt/sr0, and wait until it asks for the password."""
    guest.run("setsid /mnt/sr0/docker-registry serve /mnt/sr0/registry.yml > /tmp/registry.log 2>&1 &")
    ask = "wget -q -O - http://127.0.0.1:5000/v2/ 2>&1 | grep -q 401"
    guest.run(f"for i in $(seq 60); do {ask} && break; sleep 1; done; {ask}", 120)
