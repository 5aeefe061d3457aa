# SPDX-License-Identifier: MIT
"""What the vm tests do with a real browser: open a page, wait for it, type, click."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.support.chromium import chromium

T = TypeVar("T")
# Seconds; the server is emulated, and its page has 20 MB of scripts.
PATIENCE = 400.0


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def until(self, condition: Callable[[], T], what: str) -> T:
        """Wait until `condition` returns something true, and return that."""
        waiting = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=(WebDriverException,))
        return waiting.until(lambda _: condition(), what)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str, text: str = "") -> WebElement:
        """Wait for an element that is shown, has `text` in it, and fits the CSS selector."""

        def found() -> WebElement | None:
            shown = (element for element in self.all(css) if element.is_displayed() and text in element.text)
            return next(shown, None)

        element = self.until(found, f"no {css} with {text!r} was shown")
        assert element is not None
        return element

    def type(self, *keys: str) -> None:
        """Press keys where the cursor is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def control(self, key: str) -> None:
        """Press Ctrl and a key."""
        ActionChains(self.driver).key_down(Keys.CONTROL).send_keys(key).key_up(Keys.CONTROL).perform()

    def double_click(self, element: WebElement) -> None:
        ActionChains(self.driver).double_click(element).perform()


@contextmanager
def browser(folder: Path, screenshot: Path) -> Iterator[Browser]:
    """A window with a new user's data in `folder`; what it shows last is kept in `screenshot`."""
    with chromium(folder) as driver:
        driver.set_page_load_timeout(PATIENCE)
        try:
            yield Browser(driver)
        finally:
            screenshot.parent.mkdir(parents=True, exist_ok=True)
            driver.save_screenshot(str(screenshot))


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
