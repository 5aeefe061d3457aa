# SPDX-License-Identifier: MIT
"""Podman in a fresh system, with a fresh Debian 13 for the base image that a registry would give."""

from __future__ import annotations

import json
import resource
import shlex
import shutil

from tasks.util import checkout
from tests.support import hosts
from tests.support.hosts import System

BASE = "docker.io/library/debian:13"


def install(system: System) -> None:
    """Install Podman in a system whose visitor is `machine`, and import the base image.

    Containers, also those of a build, have this machine's settings of apt and pip.
    """
    said(system, "apt-get update && apt-get install --yes --no-install-recommends podman")
    (system.root / "etc/containers/containers.conf").write_text(_settings())
    archive = system.root / "var/tmp/debian13.tar"
    shutil.copyfile(hosts.archive("debian13", checkout.cache_folder()), archive)
    env = (shlex.quote(f"ENV {name}={value}") for name, value in hosts.pip_environment().items())
    changes = " ".join(f"--change {one}" for one in env)
    said(system, f"podman import {changes} /{archive.relative_to(system.root)} {BASE}")
    archive.unlink()


def said(system: System, script: str) -> str:
    """Run a script of sh in a system; return what it printed.  It must end well."""
    # Podman asks for the cgroups of version 2; a machine may have those of version 1 there.
    done = system.run("sh", "-e", "-c", f"mount -t cgroup2 cgroup2 /sys/fs/cgroup\n{script}")
    assert done.status == 0, f"{script}\n{done.output}"
    assert "Traceback" not in done.output
    return done.output


def _settings() -> str:
    """Return what containers.conf(5) must say for containers that change nothing of this machine.

    Each command has a /dev/shm of its own, so locks in memory would not last.
    """
    # crun sets the limits of a container, and may be too weak to raise them.
    limits = {
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "nproc": resource.getrlimit(resource.RLIMIT_NPROC)[1],
    }
    ulimits = [f"{name}={hard}:{hard}" for name, hard in limits.items()]
    volumes = [f"{hosts.CERTIFICATES}:{hosts.CERTIFICATES}:ro"] if hosts.given_certificates() else []
    return f"""\
[containers]
cgroups = "disabled"
netns = "host"
default_ulimits = {json.dumps(ulimits)}
volumes = {json.dumps(volumes)}
[engine]
cgroup_manager = "cgroupfs"
lock_type = "file"
events_logger = "file"
"""
