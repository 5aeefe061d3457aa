# SPDX-License-Identifier: MIT
"""Start proot on a current kernel: `proot_start.py WORD...`, one of which is the path of proot.

proot(1) translates the paths in a program's system calls.  The one of Debian 11 to 13 (5.1.0) does
not know calls that came later, and a path in these reaches the machine's own file.  The C library
uses an older call where the kernel says ENOSYS, so a seccomp filter (seccomp(2)) says just that.
Programs inherit the filter.  Numbers and constants: linux/filter.h, linux/seccomp.h, asm/unistd_64.h.

proot 5.1.0 also emulates brk(2), and keeps one record of the heap for all processes that share memory.  What
posix_spawn(3) starts shares it with its parent, by clone(2).  When it has executed a program, the record
tells of that one's heap.  Then proot refuses to read that part of the parent's memory (EFAULT), and two
such children get one heap.  So a copy of proot runs in which threads alone share the record.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

CALLS = {
    "renameat2": 316,
    "execveat": 322,
    "statx": 332,
    "clone3": 435,  # its flags are where proot does not look for them
    "openat2": 437,
    "faccessat2": 439,
    "fchmodat2": 452,
}
ENOSYS = 38
X86_64 = 0xC000003E  # AUDIT_ARCH_X86_64
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
# new_child() in tracee.c of proot: `(clone_flags & CLONE_VM) != 0`, as `test $0x100,%r12d`, then `je`; with
# CLONE_THREAD, which is 0x10000.
SHARED_HEAP = bytes.fromhex("41f7c400010000 0f84")
OWN_HEAP = bytes.fromhex("41f7c400000100 0f84")
PROOT = "/usr/bin/proot"


class Filter(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def instructions() -> list[tuple[int, int, int, int]]:
    """Return the filter as `struct sock_filter`: code, jump if true, jump if false, operand."""
    numbers = list(CALLS.values())
    return [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, X86_64),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, NUMBER),
        # Each jumps to the last instruction.
        *((EQUAL, len(numbers) - place, 0, number) for place, number in enumerate(numbers)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, ERRNO | ENOSYS),
    ]


def install() -> None:
    """Install the filter for this process and its children.  Raises `OSError` if the kernel refuses."""
    code = b"".join(struct.pack("HBBI", *one) for one in instructions())
    held = ctypes.create_string_buffer(code, len(code))
    program = Filter(len(instructions()), ctypes.cast(held, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*words) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def mended(program: str) -> str:
    """Return the path of a copy of proot, in memory, in which only threads share the record of the heap.

    Raises `SystemExit` if it is another proot than that of Debian.
    """
    with open(program, "rb") as source:
        code = source.read()
    if code.count(SHARED_HEAP) != 1:
        raise SystemExit(f"{program} is not the proot 5.1.0 of Debian")
    copy = os.memfd_create("proot", 0)  # programs that it starts keep it open
    with open(copy, "wb", closefd=False) as sink:
        sink.write(code.replace(SHARED_HEAP, OWN_HEAP))
    return f"/proc/self/fd/{copy}"


if __name__ == "__main__":
    words = sys.argv[1:]
    for place, word in enumerate(words):
        if word.endswith(PROOT):
            words[place] = mended(word)
            break  # what follows is for the program in the root
    install()
    # With its own filter, proot misses calls: it relies on an order of ptrace(2) and seccomp(2) that
    # Linux 4.8 changed.
    os.environ["PROOT_NO_SECCOMP"] = "1"
    os.execv(words[0], words)
