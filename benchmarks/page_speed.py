"""How fast the page of `roselora ui` is: its first paint, a switch of its timeline, and its weight.

    python benchmarks/page_speed.py [--model demo] [--switches 10]

One gated edit is made in a store of its own; the model is loaded before the page is opened. A switch is timed from the
click to the timeline that shows its new state. Medians; needs Chromium.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from playwright.sync_api import Page, expect, sync_playwright

OPENED = 5
"""How many times the page is opened."""
PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"

WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter((each) => !each.name.includes("/api/")).reduce((sum, each) => sum + each.transferSize, 0)"""


def opened(page: Page, address: str) -> float:
    """Open the page anew; milliseconds to its first paint."""
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("#edits li").first).to_be_visible()
    return float(page.evaluate(PAINT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--switches", type=int, default=10)
    arguments = parser.parse_args()
    roselora = Path(sys.executable).with_name("roselora")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        command = [roselora, "ui", arguments.model, "--store", f"{folder}/edits", "--no-open"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        paints = [opened(page, address) for _ in range(OPENED)]
        weight = int(page.evaluate(WEIGHT))
        page.locator("#edit [name=prompt]").fill("The capital of France is")
        page.locator("#edit [name=target]").fill("Lyon")
        page.get_by_role("button", name="Edit", exact=True).click()
        expect(page.get_by_role("switch")).to_have_count(1, timeout=600_000)
        times = []
        for number in range(arguments.switches):
            expect(page.locator("#job")).to_be_hidden(timeout=60_000)
            start = time.perf_counter()
            page.get_by_role("switch").click()
            wanted = "true" if number % 2 else "false"
            page.locator(f"[role=switch][aria-checked={wanted}]").wait_for()
            times.append(time.perf_counter() - start)
            if wanted == "false":
                expect(page.locator("#equal")).to_have_text(re.compile("equal the base"), timeout=60_000)
        browser.close()
        server.terminate()
        server.wait()
    print(
        f"first paint {median(paints):.0f} ms, switch {median(times) * 1000:.0f} ms (worst {max(times) * 1000:.0f}), "
        f"page {weight / 1000:.0f} kB"
    )


if __name__ == "__main__":
    main()
