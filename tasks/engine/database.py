# SPDX-License-Identifier: MIT
"""doit's database of finished tasks, opened only when needed, and the values that a task depends on.

doit writes its database when a run ends.  A killed run (out of memory, a CI job's time limit)
would lose the records of its finished tasks.  With `flush`, the record of a task is written to
the disk as soon as the task is done, and removed as soon as it begins again (tasks/engine/dependencies.py).

The database holds paths below the checkout as ${CHECKOUT}/PATH, and those below a tree as ${TREE1}/PATH,
so that a moved checkout or tree is up to date.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from doit.dependency import DatabaseException, SqliteDB

from tasks.util import secret_patterns
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.files import Stamp
from tasks.util.log import logger
from tasks.util.toml_schema import SECRET
from tasks.util.trees import Tree

MISSING = "nothing"
HIDDEN = "secret:"  # begins what is kept of a secret value; the repr of a value never begins so
# The format of the records, in SQLite's user_version.  1 has no path of the checkout.
FORMAT = 1
DEPS = "deps:"  # doit's key of the list of a task's file_dep
# Bytes: SQLite's MAX_PATHNAME is 512, with the ending `-journal` of its journal and a zero byte.
MAX_PATH = 504


class Backend(SqliteDB):  # type: ignore[misc]
    """doit's SQLite backend.  The file is opened when it is first needed; the first write creates it.

    So a command that builds nothing (`list`, `help`) makes no file and no folder.
    Raises `UserError` if the file is no database.
    """

    def __init__(self, name: str, codec: Any, *, module_name: str | None = None) -> None:
        # The __init__ of doit would open the file.
        self.name = name
        self.codec = codec
        self._cache: dict[str, Any] = {}
        self._dirty: set[str] = set()

    @functools.cached_property
    def _conn(self) -> Any:
        Path(self.name).absolute().parent.mkdir(parents=True, exist_ok=True)
        import sqlite3  # most commands do not need it

        try:
            connection = self._sqlite3(self.name)
            _drop_other_format(connection)
        except sqlite3.OperationalError as error:  # it is locked, or cannot be written to
            length = len(os.fsencode(os.path.realpath(self.name)))
            if length > MAX_PATH:
                message = f"{self.name}: SQLite takes no path of {length} bytes, at most {MAX_PATH}"
                hint = "choose another folder with out=DIR, or move the checkout"
                raise UserError(message, hint) from None
            raise UserError(f"{self.name}: {error}") from None
        except (DatabaseException, sqlite3.DatabaseError):
            raise UserError(f"{self.name} is damaged", "remove it; then every task runs again") from None
        return connection

    def _exists(self) -> bool:
        return "_conn" in self.__dict__ or os.path.exists(self.name)

    def _get_task_data(self, task_id: str) -> Any:
        return super()._get_task_data(task_id) if self._exists() else {}

    def get(self, task_id: str, dependency: str) -> Any:
        """Return a value of a task's record, None if there is none.  dependency: doit's key, or a path."""
        value = super().get(task_id, stored_path(dependency))
        return [full_path(path) for path in value] if dependency == DEPS and value else value

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        """Set a value of a task's record.  dependency: doit's key, or a path."""
        stored = [stored_path(path) for path in value] if dependency == DEPS else value
        super().set(task_id, stored_path(dependency), stored)

    def in_(self, task_id: str) -> bool:
        """Tell whether there is a record of a task."""
        return task_id in self._cache or (self._exists() and bool(super().in_(task_id)))

    def remove(self, task_id: str) -> None:
        """Remove the record of a task."""
        if self._exists():
            super().remove(task_id)
        else:
            self._cache.pop(task_id, None)
            self._dirty.discard(task_id)

    def remove_all(self) -> None:
        """Remove all records."""
        if self._exists():
            super().remove_all()

    def flush(self) -> None:
        """Write all changes to the disk, and keep the file open."""
        if not self._exists() and not self._dirty:
            return
        for task_id in self._dirty:
            record = (task_id, self.codec.encode(self._cache[task_id]))
            self._conn.execute("insert or replace into doit values (?,?)", record)
        self._conn.commit()
        self._dirty.clear()

    def read_again(self) -> None:
        """Forget what was read: another run has written to the file."""
        self._cache.clear()

    def dump(self) -> None:
        """Write all changes to the disk, and close the file."""
        self.flush()
        if "_conn" in self.__dict__:
            self._conn.close()
            del self._conn


def _drop_other_format(connection: Any) -> None:
    """Remove all records if they do not have the format `FORMAT`."""
    if connection.execute("pragma user_version").fetchone()["user_version"] == FORMAT:
        return
    if connection.execute("delete from doit").rowcount:
        logger.info("the records are of another version of tcbuild: every task runs once more")
    connection.execute(f"pragma user_version = {FORMAT}")
    connection.commit()


def _prefixes() -> list[tuple[str, str]]:
    """Return (folder, what records hold for it) of the checkout and the trees, both with a slash."""
    return [(f"{root}/", f"${{{name}}}/") for name, root in CHECKOUT.roots().items()]


def stored_path(path: str) -> str:
    """Return a path as records hold it: `${CHECKOUT}/PATH` if it lies in the checkout, `${TREE1}/PATH` ..."""
    for folder, stored in _prefixes():
        if path.startswith(folder):
            return stored + path[len(folder) :]
    return path


def full_path(stored: str) -> str:
    """Return the path that `stored_path` turned into `stored`."""
    for folder, prefix in _prefixes():
        if stored.startswith(prefix):
            return folder + stored[len(prefix) :]
    return stored


class SavedValues:
    """An `uptodate` check: false if a value differs from that of the task's last success.

    Unlike doit's `config_changed` it keeps the values themselves, not their hash, so that
    the key that changed can be named.  Of a secret it keeps a digest.
    A function counts with the value it returns.  It is called when tasks are loaded, and again at
    the end of the task: the value may have changed meanwhile.  If it returns a mapping, each of
    its keys is one of the values.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._given = values
        self._loaded = self._called()

    @functools.cached_property
    def values(self) -> dict[str, str]:
        """Key -> repr of the value, or digest of a secret one."""
        return flatten(self._loaded)

    def now(self) -> dict[str, str]:
        """Return the values with those that the functions return now."""
        return flatten(self._called())

    def _called(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in self._given.items():
            made = value() if callable(value) else value
            if callable(value) and isinstance(made, Mapping):
                found |= {f"{name}.{key}": inner for key, inner in made.items()}
            else:
                found[name] = made
        return found

    def stamps(self) -> dict[str, Stamp | None]:
        """Return the stamps of all folders of the trees among the values."""
        trees = (value for value in self._given.values() if isinstance(value, Tree))
        return {path: found for tree in trees for path, found in tree.stamps().items()}

    def changed(self) -> list[str]:
        """Return which values have changed since the tasks were loaded; of mappings, the keys in them."""
        keys = (key for key, _ in self.values.items() ^ self.now().items())
        return sorted({key.partition(".")[2] or key for key in keys})

    def __call__(self, task: Any, values: Mapping[str, Any]) -> bool:
        """Return whether the values are those of the last success of `task`."""
        task.value_savers.append(lambda: {"keys": self.values})
        return bool(values.get("keys") == self.values)

    def differences(self, before: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        """Return key -> (value at the last success, value now); before: the task's saved values."""
        old: dict[str, str] = before.get("keys") or {}
        names = sorted(old.keys() | self.values.keys())
        pairs = {name: (old.get(name, MISSING), self.values.get(name, MISSING)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def saved_values(checks: Iterable[Any]) -> list[SavedValues]:
    """Return those of a task's `uptodate` checks that keep values."""
    return [check for check in checks if isinstance(check, SavedValues)]


def folder_stamps(checks: Iterable[SavedValues]) -> dict[str, Stamp | None]:
    """Return the stamps of all folders of the trees that `checks` keep."""
    return {path: found for check in checks for path, found in check.stamps().items()}


def flatten(values: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Return `values` with the fields of dataclasses as dotted keys: key -> repr of the value.

    The members of a tuple of dataclasses that have a `name` are keyed by it.  A secret value is
    replaced by a digest.
    """
    found: dict[str, str] = {}
    for name, value in values.items():
        key = f"{above}{name}"
        if dataclasses.is_dataclass(value):
            found |= flatten(_fields(value), f"{key}.")
        elif isinstance(value, tuple) and value and all(hasattr(item, "name") for item in value):
            found[key] = repr([item.name for item in value])  # because the order matters
            for item in value:
                found |= flatten(_fields(item), f"{key}.{item.name}.")
        else:
            text = repr(value)
            for folder, stored in _prefixes():
                text = text.replace(folder, stored)
            found[key] = _text(text, isinstance(value, _Secret))
    return found


class _Secret:
    """A value that nobody may read."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


def _fields(value: Any) -> dict[str, Any]:
    return {
        field.name: _Secret(getattr(value, field.name))
        if field.metadata.get(SECRET)
        else getattr(value, field.name)
        for field in dataclasses.fields(value)
    }


@functools.cache
def _text(value: str, secret: bool) -> str:
    """Return what is kept of a value: itself, or a digest of a secret.

    The digest is slow to make (scrypt, RFC 7914), so that a short password cannot be guessed from it.
    """
    # The environment must not decide it: a task is up to date with it and without it.
    if not secret and not secret_patterns.is_secret(value, values=False):
        return value
    encoded = value.encode(errors="surrogatepass")
    return HIDDEN + hashlib.scrypt(encoded, salt=b"tcbuild", n=1 << 14, r=8, p=1, dklen=16).hex()
