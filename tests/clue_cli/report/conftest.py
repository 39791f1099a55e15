"""A demonstration of the page, written once, and a browser to open it with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clue_cli.records import ImageRecord
from tests.clue_cli.report.demo import write_demo
from tests.clue_cli.report.reader import Reader

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")

ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--window-size=1280,900",
]


@dataclass(frozen=True)
class Demo:
    """A results folder with its page."""

    page: Path
    images: list[ImageRecord]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demonstration: read it only. The folder's name needs escaping in a URL."""
    folder = tmp_path_factory.mktemp("usb") / "case #7 100% 'x'"
    folder.mkdir()
    images = write_demo(folder)
    return Demo(folder / "index.html", images)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium with an empty profile."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    for program in (CHROMIUM, CHROMEDRIVER):
        if not program.exists():
            pytest.skip(f"{program} is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in [*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(CHROMEDRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def reader(chromium: Any, demo: Demo) -> Iterator[Reader]:
    """The demonstration, opened; at the end nothing may have been complained about or taken over."""
    chromium.get_log("browser")
    reader = Reader(chromium, demo.page)
    reader.open()
    yield reader
    assert "owned" not in chromium.title
    assert chromium.get_log("browser") == [], "errors in the console, violations of the policy among them"
