"""What must not stand in a manifest: secrets, and this machine's own folders.

A password hash of a profile can be tried out offline by whoever has it, so only a digest of
the hash is written: a changed password shows, and nothing can be tried out (a hash has a
salt that nobody else knows).  Of addresses, user and password are left out.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping
from typing import Any

from tasks.config.settings import Settings
from tasks.util.checkout import ROOT
from tasks.util.files import with_final_names
from tasks.util.process import CREDENTIALS

# Words that come before a secret on a command line, in a header or a setting.
SECRET = re.compile(
    r"(?i)((?:[a-z_-]*(?:password|passwd|secret|token|api[_-]?key)|authorization)[\"']?\s*[:=]\s*[\"']?"
    r"(?:bearer\s+|basic\s+)?|--(?:password|secret|token|api-key)\s+)[^\s'\",;]+"
)
LOCKED = ("", "*", "!")  # in place of a password: nobody can log in with it
# As many as were free at the time; the results do not depend on it.
JOBS = re.compile(r"((?<=[\s=])-j|\s-processors |\s--jobs=)\d+(?=\s|$)")


def text(value: str) -> str:
    """Return `value` without user and password in addresses, and without what looks like a secret."""
    return SECRET.sub(r"\1***", CREDENTIALS.sub("://***@", value))


def digest(secret: str) -> str:
    """Return what stands for a secret: the same for the same one, and of no use to anybody."""
    return secret if secret in LOCKED else "sha256:" + hashlib.sha256(secret.encode()).hexdigest()


def table(values: Any) -> Any:
    """Return `values` (tables, arrays, plain values) with passwords as digests and texts masked."""
    if isinstance(values, Mapping):
        return {
            name: digest(item) if name == "password" and isinstance(item, str) else table(item)
            for name, item in values.items()
        }
    if isinstance(values, list | tuple):
        return [table(item) for item in values]
    return text(values) if isinstance(values, str) else values


def command(settings: Settings, line: str) -> str:
    """Return a logged command without secrets, and with names for what differs between machines."""
    line = with_final_names(text(line))
    folders = {
        str(settings.output): "${OUTPUT}",
        str(settings.cache): "${CACHE}",
        str(ROOT): "${CHECKOUT}",
    }
    for folder in sorted(folders, key=len, reverse=True):
        pieces = re.split(re.escape(folder) + r"(?![\w.-])", line)
        line = folders[folder].join(pieces)
    line = re.sub(re.escape(tempfile.gettempdir()) + r"/(tmp|tcbuild-)[^\s'\"/]*", "${TMP}", line)
    return JOBS.sub(r"\1${JOBS}", line)
