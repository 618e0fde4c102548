"""The HTML report in a real browser: every number under every convention, and all that can be pressed."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

import flopscan
from controls import press_all, use
from flopscan.report import numbers
from flopscan.report.page import assets
from flopscan.report.report import Report
from flopscan.report.roofline_text import duration
from pages import EVIL, Turns, evil, huge, net

pytestmark = pytest.mark.browser
SCRIPT = Path(assets.__file__).parent / "script"
CONVENTIONS = ("flops", "macs", "fvcore", "vmamba", "thop", "dispatcher")


def paths(page: Any) -> list[str]:
    """The titles of the rows in sight: the paths of their modules."""
    return page.eval_on_selector_all("#module-table tbody .label", "all => all.map(one => one.title)")


def row_of(page: Any, path: str) -> Any:
    return page.locator(f'#module-table tbody tr:has(.label[title="{path or "the model"}"])').first


def cells(row: Any) -> dict[str, str]:
    """The numbers of a row with all their digits."""
    script = "tr => [...tr.querySelectorAll('td.n')].map(td => [td.classList[1], td.title || td.textContent])"
    return dict(row.evaluate(script))


def test_numbers_are_written_as_flopscan_writes_them(browser: Any) -> None:
    page = browser.new_page()
    chance = random.Random(6)
    values = [0, 1, 999, 1000, 9999, 999_949, 999_950, 99_995_000, 9_999_500, 10**24, 10**27, 9_999_999 * 10**21, -1234]
    values += [chance.randrange(10 ** chance.randrange(1, 30)) for _ in range(3000)]
    pairs = [
        (chance.randrange(b + 1), b) for b in (chance.randrange(1, 10 ** chance.randrange(1, 25)) for _ in range(3000))
    ]
    pairs += [(0, 5), (5, 0), (1, 20_000), (1, 20_001), (9994, 10**5), (9995, 10**5), (1, 8), (-1, 8), (3, 800), (5, 4)]
    times = [chance.random() * 10.0 ** -chance.randrange(12) for _ in range(500)] + [0.0, 1.0, 0.9999, 1e-3]
    found = page.evaluate(
        f"""([values, pairs, times]) => {{ {(SCRIPT / "numbers.js").read_text()}
        const all = values.map(BigInt);
        return [all.map(exact), all.map(si), pairs.map(([a, b]) => percent(BigInt(a), BigInt(b))), times.map(duration)];
        }}""",
        [[str(v) for v in values], [[str(a), str(b)] for a, b in pairs], times],
    )
    page.close()
    assert found[0] == [numbers.exact(v) for v in values]
    assert found[1] == [numbers.si(v) for v in values]
    assert found[2] == [numbers.percent(a, b) for a, b in pairs]
    assert found[3] == [duration(v) for v in times]


@pytest.mark.parametrize("name", ["vmamba", "backward", "huge"])
def test_a_convention_changes_every_number(opened: Any, vmamba: Report, name: str) -> None:
    made = {"vmamba": lambda: vmamba, "backward": lambda: net(backward=True), "huge": huge}[name]()
    page = opened(made)
    press_all(page)
    for convention in CONVENTIONS:
        use(page, convention)
        said = made.using(convention).to_dict()
        whole = numbers.exact(said["value"])
        assert page.inner_text("#value-whole") == f"{whole} {said['unit']}"
        assert page.inner_text("#value b") == numbers.si(said["value"])
        by_module = {row["name"]: row for row in said["by_module"]}
        rows = page.eval_on_selector_all(
            "#module-table tbody tr",
            "all => all.map(tr => [tr.querySelector('.label').title,"
            " [...tr.querySelectorAll('td.n')].map(td => [td.classList[1], td.title || td.textContent])])",
        )
        assert len(rows) > 40
        for title, pairs in rows:
            found, want = dict(pairs), by_module["" if title == "the model" else title]
            assert found["value"] == numbers.exact(want["value"]), (convention, title)
            assert found["share"] == numbers.percent(want["value"], said["value"])
            assert found["bytes"] == numbers.exact(want["bytes_read"] + want["bytes_written"])
            assert [found[k] for k in ("flops", "macs", "transcendentals", "params")] == [
                numbers.exact(want[k]) for k in ("flops", "macs", "transcendentals", "params")
            ]
        tables = [("operator", said["by_operator"])] + [("phase", said["by_phase"])] * (name == "backward")
        for table, rows_said in tables:
            shown = page.eval_on_selector_all(
                f"#{table}-table tbody tr:not([hidden])",
                "all => all.map(tr => [tr.cells[0].textContent, tr.querySelector('.value').title"
                " || tr.querySelector('.value').textContent])",
            )
            costly = {r["name"]: numbers.exact(r["value"]) for r in rows_said}
            assert {n: v for n, v in dict(shown).items() if v != "0"} == {n: v for n, v in costly.items() if v != "0"}
        assert page.inner_text("#said-unit") == said["unit"]
        chosen = page.eval_on_selector_all("tr.chosen", "all => all.map(tr => tr.dataset.convention)")
        assert set(chosen) == {convention}


def test_all_digits(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba)
    page.check("#digits")
    said = {row["name"]: row for row in vmamba.to_dict()["by_operator"]}
    row = page.locator("#operator-table tbody tr").first
    assert row.locator(".value").inner_text() == numbers.exact(said["aten::convolution"]["value"])
    assert page.locator("#scan-table tr.chosen td.n").first.inner_text() == numbers.exact(
        vmamba.to_dict()["scan"]["conventions"][0]["value"]
    )
    page.uncheck("#digits")
    assert row.locator(".value").inner_text() == numbers.si(said["aten::convolution"]["value"])


def test_the_tree_opens_as_deep_as_asked(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba)
    assert "what matters" in page.inner_text("#depth-value") and 20 < len(paths(page)) < 60
    page.click("#collapse")
    assert paths(page) == ["the model"]
    page.locator("#depth").fill("1")
    assert paths(page)[:3] == ["the model", "patch_embed", "layers.0"] and page.inner_text("#depth-value").startswith(
        "1 of"
    )
    twist = row_of(page, "layers.0").locator(".twist")
    assert twist.get_attribute("aria-expanded") == "false"
    twist.click()
    assert "layers.0.blocks.0" in paths(page)
    row_of(page, "layers.0").locator(".twist").press("Enter")
    assert "layers.0.blocks.0" not in paths(page)
    page.click("#expand")
    assert len(paths(page)) == page.locator("#module-table tbody tr").count() > 60


def test_equal_layers_come_apart_and_fold_again(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba)
    page.click("#expand")
    before = paths(page)
    folded = row_of(page, "layers.2.blocks.0")
    assert folded.locator(".label").inner_text() == "blocks.0-7"
    whole = cells(folded)["value"]
    folded.locator("button.times").click()
    by_module = {row["name"]: row for row in vmamba.to_dict()["by_module"]}
    for i in range(8):
        one = row_of(page, f"layers.2.blocks.{i}")
        assert one.locator(".label").inner_text() == f"blocks.{i}"
        assert cells(one)["value"] == numbers.exact(by_module[f"layers.2.blocks.{i}"]["value"])
    assert int(whole.replace(",", "")) == 8 * by_module["layers.2.blocks.7"]["value"]
    row_of(page, "layers.2.blocks.5").locator(".twist").click()
    assert "layers.2.blocks.5.op" in paths(page)
    assert page.evaluate("document.activeElement.closest('tr').querySelector('.label').title") == "layers.2.blocks.5"
    row_of(page, "layers.2.blocks.5").locator("button.times").click()
    assert paths(page) == before


def test_layers_that_take_turns_fold_too(opened: Any) -> None:
    made = flopscan.count(Turns(), (4, 8))
    page = opened(made)
    page.click("#expand")
    assert "layers.0,2,4" in row_of(page, "layers.0").inner_text()
    row_of(page, "layers.1").locator("button.times").click()
    assert [path for path in paths(page) if re.fullmatch(r"layers\.\d", path)] == [f"layers.{i}" for i in (0, 1, 3, 5)]
    by_module = {row["name"]: row for row in made.to_dict()["by_module"]}
    assert cells(row_of(page, "layers.5"))["value"] == numbers.exact(by_module["layers.5"]["value"])
    page.fill("#search", "layers.4.2")
    assert page.inner_text("#found") == "1 module found"
    page.check("#apart")
    assert {f"layers.{i} (Sequential)" for i in range(6)} <= {label.partition(":")[0] for label in frames(page)}


def test_what_is_wrong_with_a_convention_stands_above_its_numbers(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba)
    assert page.is_hidden("#warnings")
    for convention in ("fvcore", "thop", "ptflops", "flops"):
        use(page, convention)
        made = vmamba.using(convention)
        assert page.is_visible("#warnings") == (convention != "flops")
        zero = ", ".join(f"{op} \N{MULTIPLICATION SIGN} {calls}" for op, calls in made.kernels_at_zero.items())
        assert page.inner_text("#at-zero") == (f"{convention} counts as zero: {zero}." if zero else "")
        wrong = page.locator("#mistakes li").all_inner_texts()
        assert wrong == [
            f"{one.amount:+,} {made.unit} of it is a mistake: {one.bug.name} ({one.bug.source})."
            f" Without it: {convention}~{one.bug.key}"
            for one in made.mistakes
        ]
    assert vmamba.using("thop").mistakes and vmamba.using("fvcore").kernels_at_zero


def test_search_finds_modules_in_folded_layers(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba)
    every = [row["name"] for row in vmamba.to_dict()["by_module"]]
    before = paths(page)
    page.fill("#search", "blocks.7.mlp.fc1")
    assert paths(page)[-1] == "layers.2.blocks.0.mlp.fc1" and page.inner_text("#found") == "1 module found"
    page.fill("#search", "ss2d")
    classes = [module.cls for module in vmamba.ledger.trace.modules]
    assert page.inner_text("#found") == f"{classes.count('SS2D')} modules found in 4 rows"
    assert page.locator("th.hit").count() == 4
    page.fill("#search", "mlp.fc2")
    assert page.inner_text("#found").startswith(f"{sum('mlp.fc2' in name for name in every)} modules")
    assert page.locator("#flame .frame.hit").count() > 0
    page.fill("#search", "no such thing")
    assert page.inner_text("#found") == "nothing found" and paths(page) == []
    page.fill("#search", "")
    assert paths(page) == before and page.locator("#flame .frame.hit").count() == 0


def frames(page: Any) -> dict[str, float]:
    script = (
        "all => all.map(g => [g.getAttribute('aria-label'), Number(g.querySelector('rect').getAttribute('width'))])"
    )
    page.wait_for_timeout(100)  # widths are set one turn after the frames
    return dict(page.eval_on_selector_all("#flame .frame", script))


def test_the_chart_shows_each_metric(opened: Any, vmamba: Report) -> None:
    bound = vmamba.on("h100-sxm")
    page = opened(vmamba, roofline=bound)
    said = vmamba.to_dict()
    wanted = {
        "value": f"{numbers.exact(said['value'])} FLOP",
        "macs": f"{numbers.exact(said['macs'])} MAC",
        "transcendentals": numbers.exact(said["transcendentals"]),
        "bytes": f"{numbers.exact(said['bytes_read'] + said['bytes_written'])} B",
        "params": f"{numbers.exact(said['params'])} parameters",
        "time": duration(bound.total),
    }
    assert page.eval_on_selector_all("#metrics button", "all => all.map(b => b.dataset.metric)") == list(wanted)
    for metric, text in wanted.items():
        page.click(f'[data-metric="{metric}"]')
        assert page.get_attribute(f'[data-metric="{metric}"]', "aria-checked") == "true"
        assert page.inner_text("#frame") == f"(model) (VMamba): {text}, 100.0% of the whole"
    times = [label for label in frames(page) if label.startswith("selective_scan ")]
    own = {path: seconds for (path, op), seconds in bound.own().items() if op == "flopscan::selective_scan"}
    folded = {f"layers.{i}.blocks.0.op": n for i, n in enumerate((2, 2, 8, 2))}
    assert [label.split(": ")[1].split(",")[0] for label in times] == [
        duration(n * own[path]) for path, n in folded.items()
    ]
    page.click('[data-metric="bytes"]')
    by_module = {row["name"]: row for row in said["by_module"]}
    layer = by_module["layers.2"]["bytes_read"] + by_module["layers.2"]["bytes_written"]
    label = next(label for label in frames(page) if label.startswith("layers.2 "))
    width = frames(page)[label]
    assert f": {numbers.exact(layer)} B" in label
    whole = page.evaluate("document.getElementById('flame').clientWidth")
    assert width == pytest.approx(whole * layer / (said["bytes_read"] + said["bytes_written"]), rel=1e-6)
    assert any(label.startswith("selective_scan (flopscan::selective_scan): ") for label in frames(page))
    use(page, "fvcore")
    page.click('[data-metric="value"]')
    value = vmamba.using("fvcore").by_module()["layers.2"].value
    assert any(f"layers.2 (Sequential): {numbers.exact(value)} fvcore flop," in label for label in frames(page))


def test_the_chart_zooms_by_mouse_and_by_key(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba)
    whole = page.evaluate("document.getElementById('flame').clientWidth")
    frame = page.locator("#flame .frame[aria-label^='layers.2 ']")
    frame.hover()
    assert page.inner_text("#frame").startswith("layers.2 (Sequential): 5,186,865,698 FLOP")
    assert frame.locator("title").text_content() == page.inner_text("#frame")
    frame.click()
    page.wait_for_timeout(100)
    assert float(frame.locator("rect").get_attribute("width") or 0) == pytest.approx(whole, rel=1e-6)
    page.click("#unzoom")
    assert page.is_disabled("#unzoom")
    page.locator("#flame .frame[tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
        "blocks.0-1 \N{MULTIPLICATION SIGN} 2 (VSSBlock)"
    )
    page.keyboard.press("Enter")
    assert page.is_enabled("#unzoom") and page.inner_text("#frame").startswith(
        "blocks.0-1 \N{MULTIPLICATION SIGN} 2 (VSSBlock)"
    )
    page.keyboard.press("Escape")
    assert page.is_disabled("#unzoom") and page.inner_text("#frame").startswith("(model)")
    page.check("#apart")
    assert sum(label.startswith("blocks.7 (VSSBlock)") for label in frames(page)) == 1


def test_operators_are_sorted_by_any_column(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba)
    said = {row["name"]: row for row in vmamba.to_dict()["by_operator"]}
    names = "all => all.map(tr => tr.cells[0].textContent)"
    for column, key in (("calls", "calls"), ("macs", "macs"), ("transcendentals", "transcendentals")):
        page.click(f"#operator-table th.{column} button")
        found = page.eval_on_selector_all("#operator-table tbody tr:not([hidden])", names)
        assert [said[n][key] for n in found] == sorted((said[n][key] for n in found), reverse=True)
        assert page.get_attribute(f"#operator-table th.{column}", "aria-sort") == "descending"
    page.click("#operator-table th.transcendentals button")
    found = page.eval_on_selector_all("#operator-table tbody tr:not([hidden])", names)
    assert [said[n]["transcendentals"] for n in found] == sorted(said[n]["transcendentals"] for n in found)
    page.click('#operator-table th[data-by="name"] button')
    found = page.eval_on_selector_all("#operator-table tbody tr:not([hidden])", names)
    assert found == sorted(found) and page.locator("#operator-table th[aria-sort]").count() == 1


@pytest.mark.parametrize("convention", ["flops", "fvcore", "vmamba"])
@pytest.mark.parametrize("name", ["vmamba", "backward", "hostile", "huge", "huge vmamba"])
def test_the_saved_json_is_the_report(opened: Any, vmamba: Report, name: str, convention: str) -> None:
    reports = {"vmamba": lambda: vmamba, "backward": lambda: net(backward=True), "hostile": evil, "huge": huge}
    made = {**reports, "huge vmamba": lambda: huge(vmamba)}[name]()
    bound = made.on("h100-sxm")
    page = opened(made, roofline=bound)
    use(page, convention)
    saved = download(page, "json")
    want = json.loads(json.dumps({**made.using(convention).to_dict(), "roofline": bound.to_dict()}))
    found = json.loads(saved)
    for table in ("by_operator", "by_phase"):  # rows that are equal in all that they are sorted by may change places
        assert [row["value"] for row in found[table]] == [row["value"] for row in want[table]]
        found[table], want[table] = (sorted(rows[table], key=lambda row: row["name"]) for rows in (found, want))
    assert found == want


def download(page: Any, kind: str) -> str:
    with page.expect_download() as waiting:
        page.click(f'[data-save="{kind}"]')
    assert re.fullmatch(r"[\w.-]+\.(json|csv)", waiting.value.suggested_filename)
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def test_the_saved_tables_are_the_report(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba)
    use(page, "vmamba")
    said = vmamba.using("vmamba").to_dict()
    for kind, first, rows in (("modules", "module", said["by_module"]), ("operators", "operator", said["by_operator"])):
        found = list(csv.DictReader(io.StringIO(download(page, kind), newline="")))
        assert [row[first] for row in found] == [row["name"] for row in rows]
        for row, want in zip(found, rows, strict=True):
            assert (row["convention"], row["unit"]) == ("vmamba", "mixed")
            assert all(int(row[key]) == want[key] for key in want if key not in ("name", "class"))


def test_a_spreadsheet_takes_no_name_for_a_formula(opened: Any) -> None:
    page = opened(evil())
    rows = list(csv.reader(io.StringIO(download(page, "modules"), newline="")))
    assert [EVIL, EVIL] in [row[:2] for row in rows]
    source = f"{(SCRIPT / 'exports.js').read_text()} return ['=1+1', '@a', 'a,\"b\"'].map(cellOf);"
    assert page.evaluate(f"() => {{ {source} }}") == ["'=1+1", "'@a", '"a,""b"""']
