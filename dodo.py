# SPDX-License-Identifier: MIT
"""The tasks of tcbuild.  This file only declares them; the code they run is in `tasks/`.

Every task names the files it reads and writes; doit runs a task if one of them changed.
The module of an action is imported when the action runs, so that a run with nothing
to do is quick.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tasks.cache.task import SharedCache, shared
from tasks.cli import kernel_test_tasks, test_tasks, variables
from tasks.config import inputs, kernel_source, plan, recipe, recipe_lock, rootfs_rules, system, taken
from tasks.engine.task import Task, beside, changed, command, do, files
from tasks.extensions import targets
from tasks.formats.tcz import UPSTREAM_SIDE_FILES, file_names, name_of_task
from tasks.image import image_tasks, machine_files
from tasks.image.targets import carried_images, image_files, mirror_files
from tasks.initramfs import consoles
from tasks.kernel import edited_tree, installed, kconfig_tasks, requests, stock_tasks
from tasks.kernel import inputs as checkout_inputs
from tasks.origins.lock import Lock, readable_lock
from tasks.provenance import checkout_files
from tasks.toolchain import build_root, identity
from tasks.util import jobserver
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import report_errors
from tasks.util.trees import Tree

with report_errors():
    S = variables.settings()
    requests.check(S.paths, S.profile)
    inputs.check_local(S.profile)
    PLAN = plan.plan(
        S.profile, readable_lock(S.paths.pinned_lock), unused=recipe.names(), files=S.paths.profile_files
    )
    plan.require_fitting(S.profile, PLAN, S.paths.profile_files)
    USED = plan.used(S.profile, PLAN)
    RECIPES = {name: plan.recipe_of(S.profile, name) for name in PLAN.of_kind("recipe")}
    LEFT_OUT = plan.left_out(S.profile, PLAN)
    BUILDABLE = PLAN.closure([*USED, *(name for name in RECIPES if name not in LEFT_OUT)])
    CONTAINERS = image_tasks.load(S.profile)
    EVERY = {**RECIPES, **CONTAINERS.recipes}
    NEEDED = {*USED, *CONTAINERS.carried}
    PACKAGES = {name: recipe.packages({name: made}) for name, made in EVERY.items()}
    USED_PACKAGES = {name: packages for name, packages in PACKAGES.items() if name in NEEDED}
    UPSTREAM = [name for name in PLAN.of_kind("upstream") if name in USED]
    PARTS = inputs.lock_parts(Lock(), S.profile, USED_PACKAGES, UPSTREAM)
    NEEDS = {name: made.kconfig for name, made in RECIPES.items() if name in USED and made.kconfig}
    TOOLCHAINS = [build_root.digest(name) for name in S.profile.toolchains]  # of the image, of the kernel

CACHE = SharedCache.of(S)
ALONE = {"alone": True}  # tasks that write what dodo.py itself has read
DOIT_CONFIG = {
    "default_tasks": ["iso"],
    # Each output folder has its own database, because tasks are up to date in one folder only.
    "dep_file": str(S.paths.output / ".doit.sqlite"),
    "verbosity": 2,
    "num_process": jobserver.slots(),  # tasks in parallel; -n overrides it
    "action_string_formatting": "new",
}


# The first actions of a task fetch its inputs and prepare its tools.
# `shared` skips them if the shared cache has the targets of the task.
COMPILER = identity.compiler(S.profile.kernel_toolchain)
FETCH_TOOLCHAIN = do("fetch.toolchain", "fetch", S)
# Stages whose programs write results.
TOOLCHAIN = [FETCH_TOOLCHAIN, do("toolchain.prepare", "ensure_toolchains", S)]
# The parts of the core are compressed by Python packages, or by the toolchain's xz.
PACKER = TOOLCHAIN if S.profile.core.compression == "xz" else []
TREE = [
    beside("fetch.stage_inputs", "fetch_kernel_source", S),
    do("kernel.source_tree", "ensure", S),  # task `linux` leaves it out if there is a shared cache
]
KERNEL_INPUTS = [FETCH_TOOLCHAIN, *TREE, do("toolchain.prepare", "prepare", S)]
KCONFIG = [*KERNEL_INPUTS, beside("fetch.stage_inputs", "fetch_base_config", S)]
IMAGES = [beside("fetch.stage_inputs", "fetch_images", S)] if S.profile.images else []
ARCHIVES = [beside("fetch.stage_inputs", "fetch_core_archives", S)] if S.profile.core.archives else []

SOURCE = S.paths.linux / kernel_source.STAMP
SERIES = S.paths.linux / kernel_source.SERIES
PINNED = [S.paths.pinned_lock] if S.paths.pinned_lock.is_file() else []
BASE_CONFIG_LOCK = [S.paths.lock_part("kconfig")] if "kconfig" in PARTS else []
# What the configuration depends on: no C file of a tree that is edited, and no patch of C files.
KCONFIG_READS = (
    S.paths.linux / edited_tree.CONFIGURATION if S.profile.kernel.tree else SOURCE,
    S.paths.linux / kernel_source.CONFIGURATION_SERIES,
)
# A manifest states the digest of such a tree, which is known once it is copied.
EDITED = files(SOURCE) if S.profile.kernel.tree else []
KERNEL = files(
    S.paths.vmlinuz,
    *(S.paths.kernel / name for name in ("release", "modules.sha256")),
    *(S.paths.kernel / f"{name}.formats" for name in ("initramfs", "squashfs")),
)
ARCHIVES_LOCK = [S.paths.lock_part("archives")] if S.profile.core.archives else []
ROOT, INDEX = S.paths.rootfs, S.paths.output / "rootfs.index"
BASE = files(*([ROOT] if S.profile.core.rootfs else []), *ARCHIVES_LOCK)
# The part of the root that extensions depend on.  A changed script in the root rebuilds no extension.
BASE_INDEX = files(*([INDEX] if S.profile.core.rootfs else []), *ARCHIVES_LOCK)
MODULES = files(*targets.module_files(S.paths, S.profile))
DIVIDED = S.profile.kernel.modules != "core"
MODULE_NAMES = plan.module_extensions(S.profile)
CORE_MODULES = (
    files(installed.core_modules(S.paths, S.profile) / "modules.sha256") if DIVIDED else KERNEL[2:3]
)
# The files of the checkout that the record of the inputs lists, besides the code and the profile.
CHECKOUT_FILES = files(*checkout_files.of_profile(S.profile, EVERY.keys() & NEEDED, links=False))
OUTSIDE = ("onboot", "copy2fs", "ondemand")
IN_CORE = ("console=", "rdinit=")  # bootcodes that change the core
# They read the kernel's config: before it is built, but of a kernel that others built, after it was taken.
CHECKED = [*(["kconfig:needs"] if NEEDS else []), *(["kconfig:root"] if S.profile.core.archives else [])]
LISTED = files(S.paths.images_list) if S.profile.images else []  # with the sha256 of every image tar


def tcz_files(names: list[str]) -> list[str]:
    """Return the files (.tcz and its side files) of extensions and of their dependencies."""
    return files(*targets.tcz_files(S.paths, S.profile, PLAN, names))


def placed(*places: str) -> list[str]:
    """Return the profile's extensions that go to one of `places`."""
    return plan.extensions_at(S.profile, *places)


def image_inputs() -> list[str]:
    """Return the input files of an ISO or a disk image."""
    tcz = tcz_files(placed(*OUTSIDE))
    return [
        *KERNEL[:2],
        *files(S.paths.used_lock, S.paths.config),  # the manifest lists the lock's entries
        *EDITED,
        KERNEL[4],
        *files(S.paths.core, *variables.tree(CHECKOUT.root / "tasks/image/boot"), *CHECKOUT.secrets),
        *tcz,
        *LISTED,
    ]


def task_fetch() -> Iterator[Task]:
    """fetch every input of the profile, verified, into the cache"""
    yield {
        "basename": "fetch",
        "doc": "fetch every input of the profile, verified, into the cache",
        "actions": [do("fetch.inputs", "fetch", S, USED_PACKAGES), FETCH_TOOLCHAIN],
        "file_dep": files(*PINNED, *inputs.local_archives(S.profile)),
        "targets": files(S.paths.used_lock, *map(S.paths.lock_part, PARTS)),
        "uptodate": changed(
            **variables.fetch_keys(S.profile),
            toolchains=TOOLCHAINS,
            **taken.keys(S.profile, USED_PACKAGES),
            frozen=S.network.frozen,
            relock=S.network.relock,
            on_demand=S.network.fetch_on_demand,
        ),
    }
    for name, made in EVERY.items():
        origins = recipe_lock.lockable_origins(made)
        # Task `fetch` fetches the packages of the recipes that the profile uses.
        packages = () if name in NEEDED else PACKAGES[name]
        if not origins and not packages:
            continue
        lock = recipe_lock.path(name)
        yield {
            "basename": f"fetch:{recipe.name_of(name)}",  # not a sub-task, so that `fetch` does not run it
            "doc": f"fetch the inputs of {recipe.label(name)}, as its recipe locks them",
            "actions": [
                *([do("fetch.recipe_inputs", "fetch", S, name)] if origins else []),
                *([do("fetch.inputs", "fetch_packages_of", S, name)] if packages else []),
            ],
            "file_dep": files(
                recipe.folder(name) / "recipe.toml",
                *([lock] if lock.is_file() else []),
                *(PINNED if packages else []),
            ),
            "targets": files(
                *([recipe_lock.used_path(S.paths, name)] if origins else []),
                *([S.paths.extension_lock(name)] if packages else []),
            ),
            "uptodate": [
                *changed(origins=origins, packages=packages, relock=S.network.relock),
                (recipe_lock.is_cached, [S.paths, name]),
            ],
        }


def task_lock() -> Iterator[Task]:
    """pin the newest packages, and files without a known sha256, in profiles/NAME.lock.toml"""
    doc = "pin the newest packages, and files without a known sha256, in profiles/NAME.lock.toml"
    # A root of a suite's packages can have every extension, so the lock covers them all.
    every = S.profile.core.rootfs
    check = [do("config.plan", "refuse", error) for error in PLAN.broken.values()] if every else []
    packages = PACKAGES if every else USED_PACKAGES
    yield command("lock", doc, *check, do("fetch.inputs", "lock", S, packages), meta=ALONE)
    doc = "print what is locked and has a newer version (or all that is locked of NAME), and who offers it"
    yield command("outdated", doc, do("fetch.outdated", "tell", S, packages), pos_arg="names")
    doc = "lock the newest of NAME (kernel, rootfs, a recipe ...) and nothing else, and show what changes"
    yield command("update", doc, do("fetch.update", "update", S, packages), pos_arg="names", meta=ALONE)
    for name in recipe_lock.lockable({**recipe.readable(), **CONTAINERS.recipes}):
        doc = f"pin the inputs of {recipe.label(name)} (or of its ALTERNATIVE) in its lock.toml"
        pin = do("fetch.recipe_inputs", "lock", S, name)
        yield command(f"lock:{name}", doc, pin, pos_arg="wanted", meta=ALONE)


def task_toolchain() -> Iterator[Task]:
    """make the profile's toolchain ready, and tell what runs its programs here, and why"""
    doc = "make the profile's toolchain ready, and tell what runs its programs here, and why"
    yield command("toolchain", doc, do("fetch.toolchain", "refetch", S), do("toolchain.prepare", "tell", S))
    doc = "pin the newest packages of the build root of toolchain NAME (default: of all)"
    yield command("toolchain:lock", doc, do("fetch.toolchain", "lock", S), pos_arg="names", meta=ALONE)


def task_inputs() -> Task:
    """record the inputs in inputs.manifest.json, before anything is built"""
    return {
        "actions": [do("provenance.manifest", "write_early", S.paths, S.profile)],
        "file_dep": [
            *EDITED,
            *files(*{S.paths.used_lock, *image_files(S.paths, S.profile), *CHECKOUT.secrets}),
            *CHECKOUT_FILES,
        ],
        "targets": files(S.paths.output / "inputs.manifest.json"),
        "uptodate": changed(**variables.published_keys(S.profile)),
    }


def task_linux() -> Task:
    """unpack the kernel source and apply the patch series"""
    if S.profile.kernel.image:
        return {"actions": None, "uptodate": [True]}
    # With a shared cache, the source is unpacked only when a stage needs it, or somebody asks for it.
    asked = variables.asks_for("linux")
    whole = asked or not S.network.shared_cache
    return {
        "actions": [
            *([beside("fetch.stage_inputs", "fetch_kernel_source", S)] if whole else []),
            do("kernel.source_tree", "prepare", S, whole),
        ],
        "file_dep": files(S.paths.lock_part("linux"), *checkout_inputs.patch_files(S.profile)),
        "task_dep": ["users"],  # before hours of compiling
        "targets": files(*dict.fromkeys((SOURCE, SERIES, *KCONFIG_READS))),
        "uptodate": [
            *changed(patches=S.profile.kernel.patches),
            (edited_tree.is_current, [S.paths, S.profile]),
            *([(kernel_source.is_whole, [S.paths])] if asked else []),
        ],
    }


def task_kconfig() -> Iterator[Task]:
    """check that the kernel has, or gets, every line of the fragments"""
    if S.profile.kernel.image:
        yield from stock_tasks.kconfig(S)
    else:
        share = partial(shared, CACHE, S)
        yield from kconfig_tasks.declared(S, KCONFIG_READS, BASE_CONFIG_LOCK, KCONFIG, COMPILER, share)
    if NEEDS:
        yield {
            "basename": "kconfig:needs",
            "doc": "check that the kernel has what the profile's extensions need of it",
            "actions": [do("kernel.needs", "check", S.paths, S.profile, NEEDS)],
            "file_dep": files(S.paths.config),
            "uptodate": changed(**{f"kconfig.{name}": symbols for name, symbols in NEEDS.items()}),
        }
    if S.profile.core.archives:
        yield {
            "basename": "kconfig:root",
            "doc": "check that the kernel has what the scripts of the base root wait for",
            "actions": [*ARCHIVES, do("initramfs.root_needs", "check", S.paths, S.profile)],
            "file_dep": [*BASE, *files(S.paths.config)],
            "uptodate": changed(bootcodes=S.profile.boot.bootcodes, extensions=placed(*OUTSIDE)),
        }


def task_kernel() -> Task:
    """build bzImage and modules, install them below artifacts/, and check the vmlinuz"""
    if S.profile.kernel.image:
        return stock_tasks.kernel(S, BASE, [*ARCHIVES, *TOOLCHAIN], KERNEL, TOOLCHAINS[0])
    compile_it = {
        "basename": "kernel",
        "actions": [*KERNEL_INPUTS, do("kernel.build", "build", S), do("kernel.install", "install", S)],
        "file_dep": files(S.paths.config, SOURCE, SERIES),
        # The record of the inputs is there when the build fails.
        "task_dep": ["inputs", *CHECKED],
        "targets": KERNEL,
        "meta": {"sizes": files(S.paths.kernel / "modules")},  # run records list their sizes
        "uptodate": changed(S.paths.kernel / "modules", tools=COMPILER, epoch=S.profile.source_date_epoch),
    }
    made = shared(CACHE, S, compile_it, made=[S.paths.kernel])
    # Also if the kernel comes from the shared cache.
    remember = beside("kernel.kconfig_diff", "remember", S.paths, S.profile)
    return {**made, "actions": [*made["actions"], remember]}


def task_rootfs() -> Task:
    """make the base root from apt packages and rootfs/ (profiles that declare one)"""
    if not S.profile.core.rootfs:
        return {"actions": None, "uptodate": [True]}
    make_it = {
        "basename": "rootfs",
        "actions": [
            beside("fetch.stage_inputs", "fetch_core_packages", S),
            *PACKER,
            do("initramfs.rootfs", "build", S),
        ],
        "file_dep": files(S.paths.lock_part("rootfs"), *rootfs_rules.inputs(), *CHECKOUT.secrets),
        "targets": files(ROOT, INDEX),
        "uptodate": changed(
            core=S.profile.core,
            epoch=S.profile.source_date_epoch,
            layout=rootfs_rules.layout(),
            toolchain=TOOLCHAINS[0] if PACKER else "",
        ),
    }
    return shared(CACHE, S, make_it)


def task_users() -> Task:
    """check that the base fits the users of the profile (profiles that have some)"""
    users = S.profile.system.users
    if not users:
        return {"actions": None, "uptodate": [True]}
    return {
        "actions": [*ARCHIVES, do("initramfs.core", "check_users", S.paths, S.profile)],
        "file_dep": BASE,
        "uptodate": changed(users=[(user.name, user.uid) for user in users]),  # passwords are not kept
    }


def task_modules() -> Task:
    """divide the kernel's modules between the core (needed to boot) and extensions (some profiles)"""
    if not DIVIDED:
        return {"actions": None, "uptodate": [True]}
    split = {
        "basename": "modules",
        "actions": [
            do("kernel.installed", "kernel_release", S.paths, S.profile),  # a wrong one is an error first
            *ARCHIVES,
            *TOOLCHAIN,
            do("extensions.modules", "split", S.paths, S.profile),
        ],
        "file_dep": [*KERNEL[1:3], *BASE, str(CHECKOUT.find("kconfig", "modules.toml"))],
        "targets": [*MODULES, *CORE_MODULES],
        "uptodate": changed(
            toolchain=TOOLCHAINS[0],
            compress=S.profile.kernel.compress_modules,
            kernel=(S.profile.kernel.modules, S.profile.kernel.release),
            epoch=S.profile.source_date_epoch,
        ),
    }
    return shared(CACHE, S, split, made=[*map(Path, MODULES), installed.core_modules(S.paths, S.profile)])


def named(name: str, used: bool) -> Task:
    """Return the name of the task that makes an extension; `./doit tcz` makes those that are `used`."""
    word = name_of_task(name)
    return {"basename": "tcz", "name": word} if used else {"basename": f"tcz:{word}"}


def recipe_task(name: str, made: recipe.Recipe) -> Task:
    """Return the task that builds the extension `name` by its recipe."""
    fetched = [recipe_lock.used_path(S.paths, name)] if recipe_lock.lockable_origins(made) else []
    own = recipe.toolchains(made)
    locks = [*fetched, *([S.paths.extension_lock(name)] if PACKAGES[name] else [])]
    build = do("extensions.build", "build", S, name)
    if made.has_modules:
        build = do("extensions.external", "build", S, name)
    # Modules are built again when the kernel changes, or what compiles them.
    tools = {"tools": COMPILER, "compress": S.profile.kernel.compress_modules} if made.has_modules else {}
    make_it = {
        **named(recipe.name_of(name), name in USED),
        "doc": made.info.description,
        "actions": [
            beside("fetch.stage_inputs", "fetch_recipe_packages", S, name),
            *([beside("fetch.recipe_inputs", "fetch_missing", S, name)] if fetched else []),
            *TOOLCHAIN,
            *([beside("fetch.toolchain", "make_roots", S, own)] if own else []),
            *(KERNEL_INPUTS if made.has_modules else []),
            build,
        ],
        "meta": {"before_fork": [do("extensions.build", "base_root", S.paths, S.profile)]},
        # The root and the dependencies are read to check that no library is missing.
        "file_dep": [
            *files(*locks, *recipe.files(name), *recipe.source_files(made), *CHECKOUT.secrets),
            *([*KERNEL[:3], *files(S.paths.config, SOURCE, SERIES)] if made.has_modules else []),
            *BASE_INDEX,
            *tcz_files([dep for dep in PLAN.nodes[name].deps if dep not in MODULE_NAMES]),
        ],
        "targets": files(*(S.paths.tcz / file for file in file_names(name))),
        "uptodate": changed(
            layout=recipe.own_tree(name, made),
            origins=made.origin,
            toolchain=[TOOLCHAINS[0], *map(build_root.digest, own)],
            epoch=S.profile.source_date_epoch,
            modules=S.profile.kernel.modules,
            **tools,
        ),
    }
    return shared(CACHE, S, make_it)


def task_tcz() -> Iterator[Task]:
    """make the extensions of the profile; --all: also those of the other recipes"""
    doc = "make the extensions of the profile; --all: also those of the other recipes"
    instead = {"--all": "tcz:all"}
    yield {
        "basename": "tcz",
        "name": None,
        "doc": doc,
        "params": [variables.ALL],
        "meta": {"instead": instead},
    }
    all_doc = "make the extensions of all recipes, and print which are left out, and why"
    whole = ["tcz", *(f"tcz:{name_of_task(recipe.name_of(name))}" for name in BUILDABLE if name in RECIPES)]
    yield command("tcz:all", all_doc, do("config.plan", "log_left_out", LEFT_OUT), task_dep=whole)
    tree_doc = "print the dependencies of extension NAME (default: all of the profile), with sizes"
    yield command(
        "tcz:tree",
        tree_doc,
        do("extensions.dependency_tree", "print_tree", S.paths, S.profile),
        pos_arg="names",
    )
    for name in PLAN.of_kind("upstream"):
        yield {
            **named(name, name in USED),
            "doc": "take a fetched upstream extension",
            "actions": [
                beside("fetch.stage_inputs", "fetch_extension", S, name),
                do("extensions.upstream", "install", S.paths, S.profile, name),
            ],
            "file_dep": files(S.paths.extension_lock(name) if name in USED else S.paths.used_lock),
            "targets": files(*(S.paths.tcz / file for file in file_names(name, UPSTREAM_SIDE_FILES))),
            "uptodate": changed(modules=S.profile.kernel.modules),
        }
    for name, error in PLAN.broken.items():
        yield command(f"tcz:{name_of_task(name)}", "it cannot be built", do("config.plan", "refuse", error))
    for name, made in RECIPES.items():
        yield recipe_task(name, made)


def task_core() -> Iterator[Task]:
    """join base root, modules and initrd extensions into corepure64.gz"""
    join = {
        "basename": "core",
        "doc": "join base root, modules and initrd extensions into corepure64.gz",
        "actions": [*ARCHIVES, *PACKER, do("initramfs.core", "build", S.paths, S.profile)],
        "file_dep": [
            *BASE,
            KERNEL[1],
            KERNEL[3],
            *CORE_MODULES,
            *tcz_files(placed("initrd")),
            *files(*CHECKOUT.secrets, *consoles.scripts().values()),
        ],
        "task_dep": CHECKED if S.profile.kernel.image else [],
        "targets": files(S.paths.core),
        "meta": {"sizes": files(S.paths.modules)},
        "uptodate": changed(
            core=S.profile.core,
            toolchain=TOOLCHAINS[0] if PACKER else "",
            system=S.profile.system,
            extensions=placed("initrd"),
            # `kconfig:root` looks at the others again.
            bootcodes=[code for code in S.profile.boot.bootcodes if code.startswith(IN_CORE)],
        ),
    }
    yield shared(CACHE, S, join, made=[S.paths.core, S.paths.modules])
    doc = "list the files of corepure64.gz, as the kernel unpacks them"
    yield command(
        "core:list", doc, do("formats.initramfs_file", "list_core", S.paths.core), reads=files(S.paths.core)
    )


def task_image() -> Iterator[Task]:
    """make the profile's container images by their recipes in images/"""
    declared = image_tasks.declared(S, CONTAINERS, TOOLCHAINS[0])
    yield from (shared(CACHE, S, one) if "targets" in one else one for one in declared)


def task_images() -> Task:
    """check the profile's container images and list them with their digests"""
    if not S.profile.images:
        return {"actions": None, "uptodate": [True]}
    return {
        "actions": [*IMAGES, do("image.container_images", "build", S.paths, S.profile)],
        "file_dep": files(*carried_images(S.paths, S.profile), *CHECKOUT.secrets),
        "targets": files(S.paths.images_list),
        "uptodate": changed(images=S.profile.images),
    }


def task_iso() -> Task:
    """write the hybrid ISO: isolinux for BIOS, GRUB for UEFI, extensions in cde/"""
    return {
        "actions": [
            *IMAGES,
            *TOOLCHAIN,
            beside("image.bootcodes", "warn", S.paths, S.profile),
            do("image.iso", "build", S.paths, S.profile),
            do("provenance.manifest", "write_iso", S.paths, S.profile),
        ],
        "file_dep": image_inputs(),
        "targets": files(S.paths.iso, S.paths.iso.with_name(f"{S.paths.iso.name}.manifest.json")),
        "uptodate": changed(
            **variables.published_keys(S.profile), machine=partial(machine_files.of_iso, S.profile)
        ),
    }


def task_disk() -> Task:
    """write a disk image (raw and qcow2): ext3 with tce/, bootable by BIOS and UEFI"""
    mydata = system.mydata_folder(S.profile.system)
    layout = {"layout": Tree(mydata)} if mydata else {}
    return {
        "actions": [
            *IMAGES,
            beside("fetch.stage_inputs", "fetch_backup", S),
            *TOOLCHAIN,
            beside("image.bootcodes", "warn", S.paths, S.profile),
            do("image.disk", "build", S.paths, S.profile),
            do("provenance.manifest", "write_disk", S.paths, S.profile),
        ],
        "file_dep": [*image_inputs(), *files(*(variables.tree(mydata) if mydata else ()))],
        "targets": files(
            *(
                S.paths.output / f"tcbuild-{S.paths.name}.{kind}"
                for kind in ("img", "qcow2", "img.manifest.json")
            )
        ),
        "uptodate": changed(
            **variables.published_keys(S.profile),
            **layout,
            machine=partial(machine_files.of_disk, S.profile),
        ),
    }


def task_mirror() -> Task:
    """write mirror/: all extensions as a static tree for a web host or a net drive, with an index.html"""
    names = sorted(BUILDABLE)
    return {
        "actions": [*IMAGES, *ARCHIVES, do("image.mirror", "build", S.paths, S.profile, names)],
        "file_dep": [*tcz_files(names), *BASE, *LISTED, *files(*CHECKOUT.secrets)],
        "targets": files(*mirror_files(S.paths, S.profile, names)),
        "uptodate": changed(description=S.profile.description, epoch=S.profile.source_date_epoch),
    }


def task_qemu() -> Iterator[Task]:
    """boot the ISO in QEMU, its serial console on this terminal"""
    needs = files(S.paths.iso, S.paths.core, S.paths.vmlinuz)
    doc = "boot the ISO in QEMU, its serial console on this terminal"
    boot = [do("fetch.guest_root", "fetch", S), do("vm.qemu", "interactive", S.paths, S.profile)]
    more = {"params": variables.QEMU, "meta": {"check": variables.check_qemu}, "io": {"capture": False}}
    yield command("qemu", doc, *boot, reads=needs, **more)
    doc = "boot from CD, USB stick and FAT copy by BIOS and UEFI, and directly, and run the checks"
    tests, meta = do("vm.boots", "asked", S.paths, S.profile), {"check": variables.check_reports}
    yield command("qemu:test", doc, tests, reads=needs, params=variables.QEMU_TEST, meta=meta)
    yield from kernel_test_tasks.declared(S, KCONFIG, files(SOURCE, SERIES), COMPILER)


def task_test() -> Iterator[Task]:
    """run the tests"""
    yield from test_tasks.declared(S.paths.iso)


def task_inventory() -> Iterator[Task]:
    """list the contents and the origin of the ISO"""
    made = files(S.paths.iso, S.paths.iso.with_name(f"{S.paths.iso.name}.manifest.json"))
    doc = "list all components of the image, as CycloneDX and as SPDX"
    # Licences are read: of packages, and of the kernel.
    read = [do("fetch.stage_inputs", "fetch_packages", S), *([] if S.profile.kernel.image else TREE)]
    yield command("sbom", doc, *read, do("provenance.sbom.cyclonedx", "build", S), reads=made)
    doc = "write the SLSA provenance of the ISO; sign=KEYFILE signs it and the manifest"
    yield command(
        "provenance", doc, do("provenance.slsa", "build", S.paths, variables.sign_key()), reads=made
    )
