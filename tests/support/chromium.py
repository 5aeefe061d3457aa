# SPDX-License-Identifier: MIT
"""A real browser for tests: headless Chromium, driven by Selenium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

# By host.toml.
CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root has none of
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,800",
)


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a new user's data in `folder`, which keeps what its console says."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def complaints(driver: webdriver.Chrome) -> list[str]:
    """Return what the console said since it was last asked: faults, and what the policy blocked."""
    logged = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in logged if "favicon" not in entry["message"]]


def loaded(driver: webdriver.Chrome) -> list[str]:
    """Return the addresses of all that the page has loaded besides itself."""
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    return [name for name in driver.execute_script(script) if "favicon" not in name]
