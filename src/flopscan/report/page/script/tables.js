// The tables of operators, phases and source lines: filled anew under another convention, sorted by a click.
const tables = [
  ["operator-table", operators],
  ["phase-table", phases],
  ["line-table", sources],
]
  .filter(([id]) => at(id))
  .map(([id, items]) => makeTable(at(id), items));

function makeTable(table, items) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((tr) => ({ tr, ...items[tr.dataset.i] }));
  let [by, down] = ["", true];

  const compare = (a, b) => {
    if (by === "name") return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
    const [one, two] = [measure(a.line, by), measure(b.line, by)];
    return one < two ? -1 : one > two ? 1 : 0;
  };

  /** Put the rows in order: by the column that was asked for, by importance before one was. */
  function sort() {
    if (!table.classList.contains("sorted")) return;
    rows.sort((a, b) => Number(a.tr.dataset.i) - Number(b.tr.dataset.i)).sort(byImportance);
    if (by) rows.sort((a, b) => (down ? compare(b, a) : compare(a, b)));
    body.append(...rows.map((row) => row.tr));
  }

  if (table.classList.contains("sorted")) {
    for (const th of table.tHead.querySelectorAll("th[data-by]")) {
      const button = make("button", th.textContent, { type: "button", class: "sort" });
      th.replaceChildren(button);
      button.addEventListener("click", () => {
        const name = th.dataset.by === "share" ? "value" : th.dataset.by;
        down = by === name && th.ariaSort ? !down : name !== "name";
        by = name;
        for (const other of table.tHead.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
        th.ariaSort = down ? "descending" : "ascending";
        sort();
      });
    }
  }

  return {
    refill() {
      for (const { tr, line } of rows) {
        fill(tr, line);
        tr.hidden = table.id === "operator-table" && !costs(line);
      }
      sort();
    },
  };
}

/** The operators that were called and cost nothing, in one sentence. */
function tellFree() {
  const free = operators.filter(({ line }) => !costs(line) && measure(line, "calls")).sort(byImportance);
  const parts = free.flatMap(({ name, line }, i) => {
    return [i ? ", " : "", make("bdi", name), ` × ${exact(measure(line, "calls"))}`];
  });
  at("free").replaceChildren(...(parts.length ? ["Free of arithmetic and of bytes: ", ...parts, "."] : []));
}
