"""What a person can choose of a report; a command line asks before there is one, so that nothing is loaded here."""

from __future__ import annotations

VIEWS = ("module", "operator", "line")
SORTS = ("value", "macs", "exp", "bytes", "params", "calls", "name")
SAVED = (".json", ".json.gz")  # how what was saved ends
NARROWEST = 44  # columns of text
