# SPDX-License-Identifier: MIT
"""The installed kernel is checked before it appears."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.kernel import install
from tasks.util.errors import UserError


def test_modules_without_an_index_are_refused(tmp_path: Path) -> None:
    """Else the kernel would count as built, and no later run would make the index."""
    with pytest.raises(UserError, match=r"modules\.dep was not made") as caught:
        install._require_index(tmp_path)
    assert "kmod" in caught.value.hint
    (tmp_path / "modules.dep").write_text("")
    install._require_index(tmp_path)
