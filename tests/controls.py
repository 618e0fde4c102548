"""What a person does in the HTML report, for its tests in a browser."""

from __future__ import annotations

import re
from typing import Any


def use(page: Any, convention: str) -> None:
    label = page.locator("#convention option").filter(has_text=re.compile(rf"^{re.escape(convention)} \("))
    page.select_option("#convention", label=label.inner_text())


def press_all(page: Any) -> None:
    """Every layer apart, and every row open."""
    page.click("#expand")
    while page.locator("#module-table button.times", has_text=re.compile("^\N{MULTIPLICATION SIGN}")).count():
        page.locator("#module-table button.times", has_text=re.compile("^\N{MULTIPLICATION SIGN}")).first.click()
        page.click("#expand")
