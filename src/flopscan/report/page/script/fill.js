// Numbers into the cells that stand in the page.

/** The element of one of the page's own names, or null. */
function at(id) {
  return document.getElementById(id);
}

/** A row's numbers, times as much as its line; what was not counted leaves the least that it can be. */
function fill(tr, line, times = 1n) {
  const all = ["value", "flops", "macs", "transcendentals", "bytes"].map((name) => [name, measure(line, name) * times]);
  const missing = measure(line, "uncounted") !== 0n;
  const unknown = missing && all.every(([, n]) => n === 0n);
  const least = missing ? "≥ " : "";
  const [part, whole] = [valueOf(line) * times, conventions[view.convention].total];
  for (const cell of tr.cells) {
    const name = cell.classList.contains("n") ? cell.classList[1] : "";
    if (name === "share") cell.textContent = unknown ? "?" : percent(part, whole);
    else if (name === "params") put(cell, measure(line, "params") * times, "");
    else if (name && name !== "calls") {
      if (unknown) cell.textContent = "?";
      else put(cell, all.find(([key]) => key === name)[1], least);
    }
  }
  tr.querySelector("rect").setAttribute("width", width(part, whole));
}

/** One number, in four digits with all of them as a hint, or in all digits. */
function put(cell, value, least = "") {
  cell.textContent = least + (view.digits ? exact(value) : si(value));
  if (value > -1000n && value < 1000n) cell.removeAttribute("title");
  else cell.title = least + exact(value);
}

/** An element with text and attributes. */
function make(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** An empty bar, as those in the tables that stand in the page. */
function makeBar() {
  const svg = document.createElementNS(SVG, "svg");
  const rect = document.createElementNS(SVG, "rect");
  for (const [key, value] of [["aria-hidden", "true"], ["focusable", "false"], ["width", "100%"], ["height", "10"]]) {
    svg.setAttribute(key, value);
  }
  for (const [key, value] of [["height", "10"], ["rx", "2"]]) rect.setAttribute(key, value);
  svg.append(rect);
  return svg;
}
