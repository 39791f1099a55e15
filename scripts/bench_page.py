"""How fast the page opens in a real browser.

    python scripts/bench_page.py [--images 100000] [--times 5]

Writes the page of made records, a quarter of them with copies, as `clue report` does, and opens it from the disk in
headless Chromium with an empty profile: seconds by the browser's own clock from the start of the navigation to the
frame in which the rows of the table are painted. Needs the extra `test`, Chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench_records import differing
from selenium import webdriver

from clue_cli.records import FailureRecord, ImageRecord, RunRecord
from clue_cli.report import write_report

WORDS = ["A sentence as long as those that a scan writes of a picture.", "Another one, which many pictures share."]
WATCH = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("#rows tr")) return;
  observer.disconnect();
  requestAnimationFrame(() => { window.firstRows = performance.now(); });
}).observe(document, { childList: true, subtree: true });
"""


def records(count: int) -> Iterator[ImageRecord | FailureRecord]:
    for number, record in enumerate(differing(count)):
        if isinstance(record, ImageRecord):
            of = number - number % 4 if number % 16 < 4 else number
            alike = f"{of * 0x9E3779B97F4A7C15 % 2**64:016x}"
            record = record.model_copy(update={"plain_words": WORDS, "perceptual_hash": alike})
        yield record


def measured(folder: Path, count: int, times: int) -> dict[str, Any]:
    run = RunRecord(
        version="made",
        command_line=["clue", "scan"],
        status="finished",
        started="2026-01-31T12:00:00+00:00",
        evidence=["made"],
        model={},
        settings={},
        machine={},
        settings_digest="d" * 64,
    )
    start = time.process_time()
    page = write_report(folder, run, records(count))
    seconds = time.process_time() - start
    return {
        "images": count,
        "processor_seconds_to_write": round(seconds, 1),
        "parts_mb": [round(part.stat().st_size / 1e6, 1) for part in sorted(folder.glob("*.html"))],
        "seconds_to_the_rows": opened(page, times),
    }


def opened(page: Path, times: int) -> list[float]:
    options = webdriver.ChromeOptions()
    with tempfile.TemporaryDirectory() as profile:
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
            options.add_argument(argument)
        # Without both paths selenium would look for them on the network.
        options.binary_location = shutil.which("chromium") or "chromium"
        service = webdriver.ChromeService(shutil.which("chromedriver") or "chromedriver")
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
            found = []
            for _ in range(times):
                driver.get("about:blank")
                driver.get(page.as_uri())
                found.append(round(driver.execute_script("return window.firstRows") / 1000, 2))
            return found
        finally:
            driver.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000, help="records, one in a hundred of them a failure")
    parser.add_argument("--times", type=int, default=5, help="how often it is opened")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measured(Path(folder), arguments.images, arguments.times), indent=2))


if __name__ == "__main__":
    main()
