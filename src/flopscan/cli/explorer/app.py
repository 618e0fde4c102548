"""The explorer: a tree of modules with bars, and keys for all that can be asked of it. Needs textual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from flopscan.cli.explorer import pages
from flopscan.cli.explorer.outline import Outline
from flopscan.cli.explorer.subject import METRICS, Convention, Subject, number
from flopscan.errors import UsageError
from flopscan.report.layout import Line, middle
from flopscan.report.numbers import exact, si
from flopscan.report.tree import Node

_NARROWEST = 30
_FOOT = "? help  / search  c convention  o operators  u uncounted  q quit"
_SHORT_FOOT = "? help  / search  q quit"
_BOX = """
%s { align: center middle; }
%s > * { width: 90%%; height: auto; max-height: 90%%; border: round $accent; padding: 0 1; background: $surface; }
"""


def text_of(line: Line) -> Text:
    """A line as rich has it."""
    return Text.assemble(*line, no_wrap=True, overflow="crop")


class Page(ModalScreen[None]):
    """Lines over the tree, to be scrolled; ``lines`` gives them for a width."""

    CSS = _BOX % ("Page", "Page")
    BINDINGS: ClassVar[list[Any]] = [("escape,q,o,u,question_mark", "dismiss", "Back")]

    def __init__(self, title: str, lines: Callable[[int], list[Line]]) -> None:
        super().__init__()
        self._title, self._lines = title, lines

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = self._title
            yield Static(self._text(), id="page")

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        self.call_after_refresh(lambda: self.query_one("#page", Static).update(self._text()))

    def _text(self) -> Text:
        width = max(_NARROWEST, self.app.size.width * 9 // 10 - 6)
        return Text("\n").join(map(text_of, self._lines(width)))


class Conventions(ModalScreen["str | None"]):
    """The conventions with the total under each; the one that is chosen is the answer."""

    CSS = _BOX % ("Conventions", "Conventions")
    BINDINGS: ClassVar[list[Any]] = [
        ("escape,c,q", "dismiss(None)", "Back"), ("j", "move('down')", ""), ("k", "move('up')", "")
    ]  # fmt: skip

    def __init__(self, found: Sequence[Convention], chosen: str) -> None:
        super().__init__()
        self._found, self._chosen = found, chosen

    def compose(self) -> ComposeResult:
        totals = ["-" if one.total is None else exact(one.total) for one in self._found]
        wide, digits = max(len(c.name) for c in self._found), max(map(len, totals))
        options = []
        for one, total in zip(self._found, totals, strict=True):
            line = Text(no_wrap=True, overflow="ellipsis")
            line.append(f"{one.name:<{wide}}  ", "bold green" if one.name == self._chosen else "bold")
            line.append(f"{total:>{digits}}  ").append(one.unit, "dim")
            options.append(Option(line, one.name, disabled=one.total is None))
        box = OptionList(*options)
        box.border_title = "total as counted by"
        box.highlighted = [one.name for one in self._found].index(self._chosen)
        yield box

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()

    def action_move(self, way: str) -> None:
        box = self.query_one(OptionList)
        box.action_cursor_down() if way == "down" else box.action_cursor_up()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)


class Explorer(App[None]):
    """The tree of a subject."""

    CSS = """
    #head, #columns, #foot { height: auto; padding: 0 1; }
    #columns { text-style: bold; }
    #tree { height: 1fr; border: none; padding: 0; }
    #tree > .option-list--option { padding: 0 1; }
    #search { display: none; height: 1; border: none; padding: 0 1; }
    #search.asking { display: block; }
    #foot { color: $text-muted; height: 1; }
    """
    TITLE = "flopscan"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[Any]] = [
        ("q", "quit", "Quit"),
        *((key, f"metric('{metric}')", metric) for key, metric in METRICS.items()),
        *((str(depth), f"depth({depth})", "") for depth in range(1, 10)),
        ("plus,equals_sign", "deeper(1)", "Deeper"),
        ("minus", "deeper(-1)", "Less deep"),
        ("j", "move(1)", ""),
        ("k", "move(-1)", ""),
        ("space", "toggle", ""),
        ("right", "open(True)", ""),
        ("left", "open(False)", ""),
        ("c", "conventions", ""),
        ("o", "operators", ""),
        ("u", "uncounted", ""),
        ("t", "theme", ""),
        ("question_mark", "help", ""),
        ("slash", "search", ""),
        ("n", "again(1)", ""),
        ("N", "again(-1)", ""),
    ]

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.outline = Outline(subject)
        self._found: list[list[Node]] = []
        self._at = 0

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="columns")
        yield OptionList(id="tree")
        yield Input(id="search", placeholder="a part of a name or class", compact=True)
        yield Static(_FOOT, id="foot")

    def on_mount(self) -> None:
        self.query_one("#tree").focus()

    def on_resize(self) -> None:
        self._show()

    @property
    def _tree(self) -> OptionList:
        return self.query_one("#tree", OptionList)

    def _current(self) -> tuple[int, Node]:
        return self.outline.shown()[self._tree.highlighted or 0]

    def _show(self, cursor: int | None = None) -> None:
        """Draw all anew, with the cursor in line ``cursor`` (None: on the module where it is, or the nearest above)."""
        width = max(_NARROWEST, self.size.width - 4)  # a blank on either side, and the scroll bar
        header, *lines = self.outline.lines(width)
        at = self._tree.highlighted or 0 if cursor is None else cursor
        self.query_one("#head", Static).update(self._head(width))
        self.query_one("#columns", Static).update(text_of(header))
        self._tree.clear_options()
        self._tree.add_options([Option(text_of(line)) for line in lines])
        self._tree.highlighted = min(at, len(lines) - 1)
        self._say("")

    def _head(self, width: int) -> Text:
        """What is shown, and its totals; the chosen one stands out, and what was not counted does."""
        subject = self.outline.subject
        head = Text(middle(f"{subject.title}  {subject.inputs}", width), "bold", no_wrap=True)
        totals = self._totals(width)
        if subject.uncounted:
            many = len(subject.uncounted)
            missing = Text(f"not counted: {many} operator{'s' * (many > 1)} (u)", "bold red", no_wrap=True)
            return Text("\n").join([head, totals, missing])
        return Text("\n").join([head, totals])

    def _totals(self, width: int) -> Text:
        """The total of the chosen metric, and of the others as there is room."""
        subject, chosen = self.outline.subject, self.outline.metric
        told = {}
        for metric in METRICS.values():
            least = "≥" if subject.uncounted and metric != "params" else ""
            told[metric] = f" {least}{si(number(subject.total, metric))} {subject.titled(metric)} "
        room = width - len(told[chosen])
        totals = Text(no_wrap=True)
        for metric, text in told.items():
            room -= 0 if metric == chosen else len(text) + 1
            if metric == chosen or room >= 0:
                totals.append(text, "bold reverse" if metric == chosen else "").append(" ")
        return totals

    def _say(self, text: str) -> None:
        """A sentence in the last line, or the keys."""
        keys = _FOOT if self.size.width >= len(_FOOT) + 2 else _SHORT_FOOT
        self.query_one("#foot", Static).update(Text(text or keys, no_wrap=True, overflow="ellipsis"))

    def _on_module(self, change: Callable[[], None]) -> None:
        """Make a change, and leave the cursor on its module, or on what is above it where that is closed now."""
        _, node = self._current()
        way = self.outline.found_way(node)
        change()
        places = {id(shown): i for i, (_, shown) in enumerate(self.outline.shown())}
        self._show(next(places[id(one)] for one in reversed(way) if id(one) in places))

    def action_metric(self, metric: str) -> None:
        self.outline.metric = metric
        self._show()

    def action_depth(self, depth: int) -> None:
        self._on_module(lambda: self.outline.to_depth(depth))

    def action_deeper(self, by: int) -> None:
        self.action_depth(self.outline.depth + by)

    def action_move(self, by: int) -> None:
        if by > 0:
            self._tree.action_cursor_down()
        else:
            self._tree.action_cursor_up()

    def action_toggle(self) -> None:
        level, node = self._current()
        self._on_module(lambda: self.outline.toggle(node, level))

    def action_open(self, wanted: bool) -> None:
        """Open or close; what is closed already leads to what it is in."""
        level, node = self._current()
        if self.outline.is_open(node, level) != wanted and node.children:
            self.action_toggle()
        elif not wanted and level:
            self._tree.highlighted = self.outline.reveal(self.outline.found_way(node)[:-1])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if event.option_list is self._tree:
            self.action_toggle()

    def action_conventions(self) -> None:
        subject = self.outline.subject
        try:
            found = subject.conventions()
        except UsageError as error:
            self.notify(str(error), markup=False)
            return
        self.push_screen(Conventions(found, subject.chosen), self._under)

    def _under(self, convention: str | None) -> None:
        if convention:
            self.outline.subject = self.outline.subject.under(convention)
            self.outline.metric = "value"
            self._found = []
            self._show()

    def action_operators(self) -> None:
        subject, metric = self.outline.subject, self.outline.metric
        self.push_screen(Page("operators", lambda width: pages.operators(subject, metric, width)))

    def action_uncounted(self) -> None:
        subject = self.outline.subject
        self.push_screen(Page("not counted", lambda width: pages.uncounted(subject, width)))

    def action_theme(self) -> None:
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"

    def action_help(self) -> None:
        self.push_screen(Page("keys", pages.help_))

    def action_search(self) -> None:
        box = self.query_one("#search", Input)
        box.add_class("asking")
        box.value = ""
        box.focus()

    def key_escape(self) -> None:
        self._finish_asking()

    def _finish_asking(self) -> None:
        self.query_one("#search").remove_class("asking")
        self._tree.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self._finish_asking()
        wanted = event.value.strip()
        if wanted:
            self._found, self._at = self.outline.found(wanted), -1
            self.action_again(1, wanted)

    def action_again(self, by: int, wanted: str = "") -> None:
        """Go to the next module that was found, or the one before, and start over at the end."""
        if not self._found:
            self._say(f"nothing is called {wanted!r}" if wanted else "nothing was searched for; / searches")
            return
        self._at = (self._at + by) % len(self._found)
        self._show(self.outline.reveal(self._found[self._at]))
        self._say(f"{self._at + 1:,} of {len(self._found):,}  n next  N previous")
