"""A check as SARIF 2.1.0, which code scanning shows at the source lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from flopscan.budget.findings import RULES, Finding
from flopscan.core.document import write_text

SUFFIXES = (".sarif", ".json")
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render(findings: Iterable[Finding], version: str) -> str:
    """The SARIF log of ``findings``, of flopscan at ``version``, as JSON text."""
    rules = list(RULES)
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "flopscan",
                        "semanticVersion": version,
                        "rules": [
                            {"id": rule, "name": _name(rule), "shortDescription": {"text": text}}
                            for rule, text in RULES.items()
                        ],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, rules.index(finding.rule)) for finding in findings],
            }
        ],
    }
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _name(rule: str) -> str:
    """A rule as one word: ``CostGrew``."""
    return "".join(word.capitalize() for word in rule.split("-"))


def save(findings: Iterable[Finding], version: str, path: str) -> None:
    """Write the SARIF log of ``findings`` to ``path``, atomically."""
    write_text(path, render(findings, version))


def _result(finding: Finding, index: int) -> dict[str, Any]:
    place = {
        "artifactLocation": {"uri": quote(finding.file), "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": finding.line},
    }
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.level,
        "message": {"text": finding.text},
        "locations": [{"physicalLocation": place}],
    }
