"""The HTML report in a real browser: what stays text, what is allowed, how it looks, how fast it opens."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest

import flopscan
from controls import press_all, use
from flopscan.report import page as pages
from flopscan.report.page import assets
from flopscan.report.report import Report
from pages import Wide, evil, net, on_a_device

pytestmark = pytest.mark.browser


def test_what_a_model_says_stays_text(opened: Any) -> None:
    made = evil()
    page = opened(made, roofline=on_a_device(made))
    assert page.inner_text("#frame").endswith("\N{GREATER-THAN OR EQUAL TO} 260 FLOP, 100.0% of the whole")
    press_all(page)
    use(page, "fvcore")
    page.check("#digits")
    assert page.evaluate("window.pwned") is None and page.locator("img, iframe").count() == 0
    assert page.locator("script").count() == 1 + len(assets.scripts())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_policy_stops_what_is_not_of_the_page(browser: Any, tmp_path: Path) -> None:
    html, said = pages.render(net()), []
    intruder = (
        "<script>window.pwned = 1</script><img src='data:,' onerror='window.pwned = 2'><p style='color: red' id=p>"
    )
    (tmp_path / "page.html").write_text(html.replace("</body>", f"{intruder}</body>"), encoding="utf-8")
    page = browser.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_timeout(100)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("getComputedStyle(document.getElementById('p')).color") != "rgb(255, 0, 0)"
    page.close()
    assert len([text for text in said if "Content Security Policy" in text]) >= 3


def test_the_theme_is_the_systems_until_it_is_switched(opened: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    for system, other in (("light", "dark"), ("dark", "light")):
        page = opened(net(), color_scheme=system)
        first = page.evaluate(ground)
        assert page.inner_text("#theme") == other
        page.click("#theme")
        assert page.evaluate(ground) != first and page.inner_text("#theme") == system
        page.click("#theme")
        assert page.evaluate(ground) == first


def contrast(one: list[float], two: list[float]) -> float:
    def light(rgb: list[float]) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    low, high = sorted((light(one), light(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_on_its_ground(opened: Any, theme: str) -> None:
    page = opened(flopscan.report.report.make(evil().ledger), color_scheme=theme)
    found = page.evaluate(
        """() => { const seen = new Map();
        const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        for (const element of document.querySelectorAll("body *")) {
          const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
          if (!own || !element.checkVisibility() || element.closest("svg, script")) continue;
          let ground = element;
          while (ground && (rgb(getComputedStyle(ground).backgroundColor)[3] ?? 1) < 1) ground = ground.parentElement;
          const pair = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
          seen.set(pair.join(), [element.tagName, element.className, ...pair.map(rgb)]);
        } return [...seen.values()]; }"""
    )
    assert len(found) > 5
    for tag, cls, text, ground in found:
        assert contrast(text, ground) >= 4.5, (tag, cls, text, ground)


def test_the_table_is_whole_without_scripts(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba, java_script_enabled=False)
    rows = page.locator("#module-table-whole tbody tr")
    assert rows.count() > 60 and all(row.is_visible() for row in rows.all())
    assert page.locator(".script:visible, button:visible, select:visible").count() == 0
    with_scripts = opened(vmamba)
    with_scripts.click("#expand")
    read = "all => all.map(tr => [...tr.cells].map(td => td.textContent.trim().replace(/\\s+/g, ' ') + td.title))"
    assert page.locator("#module-table-whole tbody tr").evaluate_all(read) == with_scripts.eval_on_selector_all(
        "#module-table tbody tr", read
    )


def test_it_prints_without_controls(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba, color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator(".toolbar").is_visible() and not page.locator("#search").is_visible()
    assert page.locator("#module-table").is_visible() and page.locator("#flame svg").is_visible()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(26, 32, 40)"
    widths = "all => all.map(g => Number(g.querySelector('rect').getAttribute('width')))"
    before = page.eval_on_selector_all("#flame .frame", widths)
    page.set_viewport_size({"width": 700, "height": 900})
    page.wait_for_timeout(100)
    assert page.eval_on_selector_all("#flame .frame", widths) == before, "on paper it is drawn smaller, not drawn anew"
    assert page.is_visible("#convention-table")
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")


def test_the_command_is_copied(opened: Any, vmamba: Report) -> None:
    page = opened(vmamba, permissions=["clipboard-read", "clipboard-write"])
    use(page, "fvcore")
    page.click("#copy")
    page.wait_for_function("document.getElementById('copy').textContent === 'copied'")
    assert page.evaluate("navigator.clipboard.readText()") == "flopscan count vmamba_tiny --convention fvcore"


@pytest.mark.parametrize("width", [400, 900, 1400])
@pytest.mark.parametrize("name", ["vmamba", "hostile"])
def test_nothing_is_wider_than_the_window(opened: Any, vmamba: Report, width: int, name: str) -> None:
    made = vmamba if name == "vmamba" else evil()
    page = opened(made, width=width, roofline=on_a_device(made))
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert name == "hostile" or page.locator("#roof svg circle").count() > 5
    apart = """() => {
      const boxes = (all) => [...document.querySelectorAll(all)].map((one) => one.getBoundingClientRect());
      const inner = (a) => ({ left: a.left + 2, right: a.right - 2, top: a.top + 4, bottom: a.bottom - 4 });
      const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
      const [names, circles] = [boxes("#roof text.label"), boxes("#roof circle")];
      const others = (i) => [...names.slice(i + 1), ...circles];
      return [names.length, names.filter((name, i) => others(i).some((other) => meet(inner(name), other))).length]; }"""
    names, touching = page.evaluate(apart)
    assert (names > 5 or name == "hostile") and touching == 0
    shown = "all => all.filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.getAttribute('aria-label'))"
    if name == "vmamba":
        assert page.eval_on_selector_all("#modules .scroll, #operators .scroll", shown) == []


def test_ten_thousand_calls_open_in_two_seconds(opened: Any) -> None:
    made = flopscan.count(Wide(3334), (4, 8))
    assert sum(r.count for r in made.ledger.trace.records if not r.envelope) >= 10_000
    page = opened(made)
    painted = (
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
    )
    taken = [page.evaluate(painted)]
    for _ in range(4):
        page.reload()
        taken.append(page.evaluate(painted))
    print("milliseconds from the request to the second frame:", [round(t) for t in taken])
    assert min(taken) < 2000
    page.locator("button.more").first.click()
    assert page.locator("#module-table tbody tr").count() > 3334


def test_it_is_valid_html() -> None:
    import html5lib

    for made in (net(backward=True, lines=True), evil()):
        html5lib.HTMLParser(strict=True).parse(pages.render(made, roofline=on_a_device(made)))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 900, 1400])
def test_pictures_for_the_documents(opened: Any, vmamba: Report, tmp_path: Path, width: int, theme: str) -> None:
    from PIL import Image

    page = opened(vmamba, width=width, color_scheme=theme, roofline=vmamba.on("h100-sxm", "bf16"))
    if theme == "dark":
        use(page, "thop")
    page.click('[data-metric="time"]' if theme == "dark" else '[data-metric="value"]')
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(200)
    path = Path(os.environ.get("FLOPSCAN_IMAGES", tmp_path)) / f"report-{width}-{theme}.png"
    taken = page.screenshot(full_page=True)
    with Image.open(io.BytesIO(taken)) as image:
        few = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
    assert 10_000 < path.stat().st_size < 250_000
