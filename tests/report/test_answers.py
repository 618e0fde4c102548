"""What tools say beside what flopscan says: the residual is a finding, a reason is told once."""

from __future__ import annotations

import json

import pytest

from flopscan.report.answers import ABSENT, Answer, Answers, render

ANSWERS = Answers(
    "vmamba_tiny",
    ("1x3x224x224 float32",),
    (
        Answer("exact", "1.0", "macs", "MAC", 123_456_789_012, 123_456_789_012),
        Answer("less", "2.0", "flops", "FLOP", 1_000, 1_012, reason="the convention is of version 1.9"),
        Answer("more", "3.0", "thop", "MAC", 7, 5),
        Answer("slow", "4.0", "thop", "MAC", None, 5, "stopped after 60 s", "--timeout gives it longer"),
        Answer("slower", "4.1", "thop", "MAC", None, 5, "stopped after 60 s", "--timeout gives it longer"),
        Answer("two", "5.0", "calflops", "FLOP", None, 10, "fails", "TypeError: no"),
        Answer("two", "5.0", "calflops-macs", "MAC", None, 5, "fails", "TypeError: no"),
        Answer("alone", "6.0", "macs", "MAC", 9, None, reason="flopscan has no number for it: a reason"),
        Answer("gone", "", "fvcore", "fvcore flop", None, 8, ABSENT, "pip install gone"),
        Answer("lost", "", "fvcore", "fvcore flop", None, None, ABSENT, "pip install lost"),
    ),
)


def test_the_text() -> None:
    rows = [" ".join(line.split()) for line in render(ANSWERS, width=120).splitlines()]
    assert rows == [
        "vmamba_tiny",
        "1x3x224x224 float32",
        "",
        "tool it says flopscan says unit residual",
        "exact 1.0 123,456,789,012 123,456,789,012 MAC 0",
        "less 2.0 1,000 1,012 FLOP -12",
        "more 3.0 7 5 MAC +2",
        "slow 4.0 stopped after 60 s 5 MAC -",
        "slower 4.1 stopped after 60 s 5 MAC -",
        "two 5.0 fails 10 FLOP -",
        "two 5.0 fails 5 MAC -",
        "alone 6.0 9 - MAC -",
        "gone not installed 8 fvcore flop -",
        "lost not installed - fvcore flop -",
        "",
        "slow, slower: stopped after 60 s: --timeout gives it longer",
        "two: fails: TypeError: no",
        "alone: flopscan has no number for it: a reason",
        "not installed: pip install gone; pip install lost",
        "",
        "finding: less 2.0 says 12 FLOP less than the convention flops gives; the convention is of version 1.9",
        "finding: more 3.0 says 2 MAC more than the convention thop gives",
        "",
        "1 number agrees to the unit, 2 numbers differ, 7 numbers missing",
    ]


@pytest.mark.parametrize("width", range(44, 161, 4))
def test_no_line_is_too_long_and_no_digit_is_cut(width: int) -> None:
    text = render(ANSWERS, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert all(whole in text for whole in ("123,456,789,012", "1,000", "-12", "+2"))


def test_it_is_json_ready() -> None:
    data = json.loads(json.dumps(ANSWERS.to_dict()))
    assert (data["schema"], data["target"]) == ("flopscan.answers/1", "vmamba_tiny")
    assert [row["residual"] for row in data["answers"]] == [0, -12, 2, *[None] * 7]
    assert data["answers"][3]["status"] == "stopped after 60 s"
    assert [answer.tool for answer in ANSWERS.findings] == ["less", "more"]
