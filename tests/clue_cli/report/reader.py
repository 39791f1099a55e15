"""Somebody who looks at the page in headless Chromium, with no network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from selenium.common.exceptions import TimeoutException

from clue_cli.report import printable

RIGHT, LEFT, END, ESCAPE, TAB, ENTER = "\ue014", "\ue012", "\ue010", "\ue00c", "\ue004", "\ue007"
"""Keys, as WebDriver names them."""


class Reader:
    """Somebody who looks at a page."""

    def __init__(self, driver: Any, page: Path) -> None:
        self.driver = driver
        self.url = page.as_uri()

    def open(self, fragment: str = "") -> None:
        """Load the page afresh, as from a link."""
        self._load("about:blank")
        self._load(self.url + fragment)
        there = "return location.href.startsWith(arguments[0]) && document.readyState === 'complete'"
        for _ in range(600):  # on a loaded machine the driver may take the blank page for this one
            if self.driver.execute_script(there, self.url):
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.driver.current_url} did not become {self.url}")

    def _load(self, url: str) -> None:
        """The driver now and then loses the second of two loads and waits on the blank page: it is asked again."""
        self.driver.set_page_load_timeout(20)
        for _ in range(2):
            try:
                self.driver.get(url)
            except TimeoutException:
                continue
            return
        self.driver.get(url)

    def js(self, expression: str, *arguments: object) -> Any:
        return self.driver.execute_script(f"return {expression}", *arguments)

    def until(self, expression: str) -> None:
        """Wait for the browser to do what it does by itself, such as loading pictures."""
        look = f"const look = () => ({expression}) ? done(true) : requestAnimationFrame(look)"
        self.driver.set_script_timeout(60)
        assert self.driver.execute_async_script(f"const done = arguments[0]; {look}; look();")

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def column(self, number: int) -> list[str]:
        return list(self.js(f"[...document.querySelectorAll('#rows tr')].map(r => r.cells[{number}].innerText.trim())"))

    def names(self) -> list[str]:
        return list(self.js("[...document.querySelectorAll('#rows .name a')].map(a => a.textContent)"))

    def text(self, selector: str) -> str:
        return str(self.js(f"document.querySelector({selector!r}).innerText"))

    def visible(self, selector: str) -> bool:
        return bool(self.js(f"document.querySelector({selector!r}).checkVisibility()"))

    def focused(self) -> str:
        return str(self.js("document.activeElement.id || document.activeElement.textContent"))

    def press(self, key: str) -> None:
        self.driver.switch_to.active_element.send_keys(key)


def image(locator: str, page: int = 0) -> str:
    """The fragment of a link to an image."""
    return f"#image={quote(printable(locator), safe='')}" + (f"&page={page}" if page else "")
