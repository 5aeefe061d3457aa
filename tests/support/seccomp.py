# SPDX-License-Identifier: MIT
"""The system calls that containers forbid, as a filter program for bwrap's option --seccomp.

Docker's and Podman's default profile refuse them to every process without CAP_SYS_ADMIN.  The
format is classic BPF, as seccomp(2) takes it.  Numbers are those of x86_64.
"""

from __future__ import annotations

import errno
import struct

LOAD, JUMP_IF_EQUAL, JUMP_IF_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER, FIRST_ARGUMENT = 0, 16  # offsets in struct seccomp_data
CLONE, CLONE3 = 56, 435
NEW_NAMESPACES = 0x7E020000
REFUSED = {
    "pivot_root": 155,
    "mount": 165,
    "umount2": 166,
    "unshare": 272,
    "setns": 308,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
}


def container_filter() -> bytes:
    """Return a program that refuses mounts and new namespaces with EPERM, as a container does.

    clone3 gives ENOSYS, because a filter cannot read its flags; the C library then calls clone.
    """
    program = [_step(LOAD, NUMBER)]
    for number in REFUSED.values():
        program += [_step(JUMP_IF_EQUAL, number, on_false=1), _step(RETURN, REFUSE | errno.EPERM)]
    program += [_step(JUMP_IF_EQUAL, CLONE3, on_false=1), _step(RETURN, REFUSE | errno.ENOSYS)]
    program += [_step(JUMP_IF_EQUAL, CLONE, on_false=3), _step(LOAD, FIRST_ARGUMENT)]
    program += [_step(JUMP_IF_ANY_BIT, NEW_NAMESPACES, on_false=1), _step(RETURN, REFUSE | errno.EPERM)]
    return b"".join([*program, _step(RETURN, ALLOW)])


def _step(code: int, value: int, *, on_false: int = 0) -> bytes:
    """Return one struct sock_filter; `on_false` instructions are skipped if a condition is not met."""
    return struct.pack("<HBBI", code, 0, on_false, value)
