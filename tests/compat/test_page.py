"""The examples of docs/compat.md do what the page shows."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "compat.md"


def test_the_examples_on_the_page_run() -> None:
    text = re.sub(r"(?m)^```.*$", "", PAGE.read_text())  # a fence would be taken for output
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    result = doctest.DocTestRunner().run(test)
    assert result.attempted > 15
    assert result.failed == 0
