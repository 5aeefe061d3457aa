# SPDX-License-Identifier: MIT
"""Sizes and their changes: from files that are there, and from records of earlier runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.engine.run_history import Run, TaskRun
from tasks.report import sizes
from tasks.report.sizes import CodeSize, Size
from tasks.util.errors import UserError

MODULES = "kernel/modules/lib/modules"


def put(settings: Settings, files: dict[str, int]) -> None:
    for name, size in files.items():
        path = settings.paths.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))


def past(*tasks: dict[str, dict[str, int]]) -> list[Run]:
    """Return a run for each dict of task -> sizes it recorded."""
    return [
        Run(
            f"2026010{day}T000000.000Z",
            float(day),
            1.0,
            "ok",
            ("iso",),
            tuple(TaskRun(name, float(day), 1.0, 1.0, "ok", (), made) for name, made in one.items()),
        )
        for day, one in enumerate(tasks, start=1)
    ]


def by_key(found: list[Size]) -> dict[str, Size]:
    return {size.key: size for size in found}


def test_what_is_there_is_what_is_told(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    assert sizes.collect(settings.paths, []) == []
    put(
        settings,
        {
            "tcbuild-apt.iso": 1000,
            "kernel/vmlinuz64": 50,
            f"{MODULES}/6.1/kernel/net/a.ko": 3,
            f"{MODULES}/6.1/kernel/fs/b.ko.gz": 4,
            f"{MODULES}/6.1/modules.dep": 99,
            "corepure64.gz": 100,
            "rootfs64.gz": 70,
            "modules64.gz": 20,
            "tcz/small.tcz": 5,
            "tcz/large.tcz": 6,
            "tcz/large.tcz.info": 7,
        },
    )
    found = sizes.collect(settings.paths, [])
    assert [(size.key, size.group, size.bytes) for size in found] == [
        ("tcbuild-apt.iso", "image", 1000),
        ("kernel/vmlinuz64", "kernel", 50),
        ("corepure64.gz", "core", 100),
        ("rootfs64.gz", "core", 70),
        ("modules64.gz", "core", 20),
        ("core:rest", "core", 10),
        ("modules", "module", 7),
        ("extensions", "extension", 11),
        ("tcz/large.tcz", "extension", 6),
        ("tcz/small.tcz", "extension", 5),
        ("module:fs/b.ko.gz", "module", 4),
        ("module:net/a.ko", "module", 3),
    ]
    assert all(size.change is None and size.history == (size.bytes,) for size in found)


@pytest.mark.parametrize(
    ("recorded", "now", "history", "before", "change"),
    [
        ([], 10, (10,), None, None),
        ([10], 10, (10,), None, None),
        ([8], 10, (8, 10), 8, 2),
        ([8, 10], 10, (8, 10), 8, 2),
        ([8, 10, 10, 10], 10, (8, 10, 10, 10), 8, 2),
        ([12, 8, 10], 10, (12, 8, 10), 8, 2),
        ([8, 12], 10, (8, 12, 10), 12, -2),
    ],
)
def test_the_change_is_against_the_last_other_size(
    make_settings: Callable[..., Settings],
    recorded: list[int],
    now: int,
    history: tuple[int, ...],
    before: int | None,
    change: int | None,
) -> None:
    settings = make_settings()
    put(settings, {"kernel/vmlinuz64": now})
    runs = past(*({"kernel": {"kernel/vmlinuz64": size}} for size in recorded))
    (size,) = sizes.collect(settings.paths, runs)
    assert (size.history, size.before, size.change) == (history, before, change)


def test_runs_that_made_something_else_are_no_history_of_it(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    put(settings, {"kernel/vmlinuz64": 10, "tcbuild-apt.iso": 99})
    runs = past({"kernel": {"kernel/vmlinuz64": 8}}, *[{"iso": {"tcbuild-apt.iso": 99}}] * 3)
    found = by_key(sizes.collect(settings.paths, runs))
    assert found["kernel/vmlinuz64"].history == (8, 10)
    assert found["tcbuild-apt.iso"].history == (99, 99, 99)


def test_modules_are_compared_with_those_of_another_release(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    put(settings, {f"{MODULES}/6.2/kernel/net/a.ko": 30})
    runs = past({"kernel": {f"{MODULES}/6.1/kernel/net/a.ko": 20, f"{MODULES}/6.1/kernel/net/gone.ko": 5}})
    found = by_key(sizes.collect(settings.paths, runs))
    assert set(found) == {"modules", "module:net/a.ko"}
    assert found["module:net/a.ko"].before == 20
    assert (found["modules"].before, found["modules"].change) == (25, 5)


def test_the_sum_of_extensions_has_a_history_only_where_all_are_known(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings()
    put(settings, {"tcz/a.tcz": 10, "tcz/b.tcz": 20})
    runs = past({"tcz:a": {"tcz/a.tcz": 9}}, {"tcz:b": {"tcz/b.tcz": 19}}, {"tcz:a": {"tcz/a.tcz": 10}})
    found = by_key(sizes.collect(settings.paths, runs))
    assert found["extensions"].history == (28, 29, 30)


def size(key: str, **more: int) -> Size:
    group = "extension" if key.startswith("tcz/") else "module" if key.startswith("module") else "kernel"
    label = key.removeprefix("tcz/").removeprefix("module:")
    return Size(key, label, group, more.get("bytes", 1), (1,))


ALL = [size(key) for key in ("kernel/vmlinuz64", "modules", "tcz/a.tcz", "tcz/ab.tcz", "module:net/n.ko.gz")]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ([], ["kernel/vmlinuz64", "modules", "tcz/a.tcz", "tcz/ab.tcz"]),
        (["modules"], ["modules", "module:net/n.ko.gz"]),
        (["extensions"], ["tcz/a.tcz", "tcz/ab.tcz"]),
        (["a"], ["tcz/a.tcz"]),
        (["a.tcz", "vmlinuz64"], ["tcz/a.tcz", "kernel/vmlinuz64"]),
        (["a*"], ["tcz/a.tcz", "tcz/ab.tcz"]),
        (["n"], ["module:net/n.ko.gz"]),
        (["artifacts/apt/tcz/a.tcz"], ["tcz/a.tcz"]),
    ],
)
def test_names_choose(names: list[str], keys: list[str]) -> None:
    assert [one.key for one in sizes.select(ALL, names)] == keys


def test_a_name_that_fits_nothing_is_an_error_that_says_what_there_is() -> None:
    with pytest.raises(UserError, match="nothing built is called 'b'") as caught:
        sizes.select(ALL, ["a", "b"])
    assert "a.tcz" in caught.value.hint
    with pytest.raises(UserError, match="nothing built is called 'b'") as caught:
        sizes.select([], ["b"])
    assert caught.value.hint == "./doit iso"


def test_the_table_and_json(
    make_settings: Callable[..., Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings()
    with pytest.raises(UserError, match="nothing is built"):
        sizes.print_sizes(settings.paths, [])
    put(settings, {"kernel/vmlinuz64": 11000, "tcbuild-apt.iso": 5, "runs/20260101T000000.000Z.jsonl": 3})
    sizes.print_sizes(settings.paths, [])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("warning: 20260101T000000.000Z.jsonl is damaged")
    assert [line.split() for line in said[1:]] == [
        ["bytes", "change"],
        ["tcbuild-apt.iso", "5"],
        ["vmlinuz64", "11,000"],
    ]
    (settings.paths.output / "runs/20260101T000000.000Z.jsonl").write_text(
        '{"event":"run","version":1,"at":1,"asked":[]}\n'
        '{"event":"begin","at":1,"task":"kernel","reasons":[]}\n'
        '{"event":"end","at":2,"task":"kernel","outcome":"ok","sizes":{"kernel/vmlinuz64":10000}}\n'
    )
    sizes.print_sizes(settings.paths, ["vmlinuz64"])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["vmlinuz64", "11,000", "+1,000", "+10.0", "%"]
    sizes.print_sizes(settings.paths, [], as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["profile"] == "apt"
    assert facts["sizes"][1] == {
        "name": "vmlinuz64",
        "group": "kernel",
        "path": "kernel/vmlinuz64",
        "bytes": 11000,
        "before": 10000,
        "change": 1000,
    }


def test_objects_are_summed_by_the_folder_of_their_subsystem() -> None:
    parts = [
        CodeSize("fs/ext4/inode.o", 100, 10, 1),
        CodeSize("fs/ext4/namei.o", 200, 20, 2),
        CodeSize("fs/read_write.o", 50, 0, 0),
        CodeSize("mm/kasan/deep.o", 5, 0, 0),
        CodeSize("mm/slub.o", 6, 0, 0),
        CodeSize("arch/x86/kernel/cpu/amd.o", 7, 0, 0),
    ]
    assert sizes.subsystems(parts) == [
        CodeSize("fs/ext4", 300, 30, 3),
        CodeSize("fs", 50, 0, 0),
        CodeSize("mm", 11, 0, 0),
        CodeSize("arch/x86", 7, 0, 0),
    ]


def test_a_kernel_without_objects_says_so(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    assert not sizes.has_objects(make_settings().paths)
    with pytest.raises(UserError, match="holds no objects"):
        sizes.print_sizes(make_settings().paths, ["kernel"])
