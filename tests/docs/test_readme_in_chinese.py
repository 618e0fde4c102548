"""README.zh-CN.md is README.md in another language: the same sections, commands, links, numbers and tables."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)*(?=\D|$)")


def sections(text: str) -> list[str]:
    """The text before the first heading of the second level, and each section."""
    return re.split(r"^## ", text, flags=re.MULTILINE)


def prose(text: str) -> str:
    """A section without its blocks of code."""
    return _FENCED.sub("", text)


def facts(section: str) -> dict[str, object]:
    """What a translation leaves as it is."""
    text = prose(section)
    return {
        "blocks": _FENCED.findall(section),
        "code": Counter(re.findall(r"`([^`\n]+)`", text)),
        "links": Counter(re.findall(r"\]\(([^)]+)\)", text)),
        "numbers": Counter(
            number.rstrip(",") for number in _NUMBER.findall(re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", text))
        ),
        "rows": [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")],
        "names": re.findall(r"^\| `([^`]+)`", text, re.MULTILINE),
        "bold": re.findall(r"\*\*([\d.,]+ \w+)\*\*", text),
    }


def differences(english: str, chinese: str) -> list[str]:
    """What is not the same in both, section by section."""
    ours, theirs = sections(english), sections(chinese)
    if len(ours) != len(theirs):
        return [f"{len(ours)} sections and {len(theirs)}"]
    found = []
    for one, other in zip(ours, theirs, strict=True):
        mine, its = facts(one), facts(other)
        title = one.partition("\n")[0]
        found += [f"{title}: {name}: {mine[name]} and {its[name]}" for name in mine if mine[name] != its[name]]
    return found


def test_both_say_the_same() -> None:
    english = ENGLISH.replace("English | [简体中文](README.zh-CN.md)", "[](README.md)", 1)
    assert not differences(english, CHINESE)


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("4,905,609,984", "4,905,609,985"),
        ("flopscan price llama", "flopscan prices llama"),
        ("`flopscan doctor`", "`flopscan check`"),
        ("(docs/compat.md)", "(docs/other.md)"),
        ("89.9 %", "89.8 %"),
        ("**0.048 s**", "**0.047 s**"),
        ("| `thop` | MAC |", "| `other` | MAC |"),
        ("\n## ", "\n### "),
    ],
)
def test_what_drifts_apart_is_seen(was: str, becomes: str) -> None:
    english = ENGLISH.replace("English | [简体中文](README.zh-CN.md)", "[](README.md)", 1)
    assert was in CHINESE
    assert differences(english, CHINESE.replace(was, becomes, 1))


def test_each_leads_to_the_other_and_says_that_errors_are_english() -> None:
    assert "[简体中文](README.zh-CN.md)" in ENGLISH and "[English](README.md)" in CHINESE
    assert "错误信息一律为英文" in CHINESE
