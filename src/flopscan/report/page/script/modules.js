// The table of modules: rows open and close, identical layers come apart, a search finds modules wherever they are.
// A row knows its node, path, label, how often it is there, and the rows above and below; only rows in sight are built.
const tree = (() => {
  const table = at("module-table");
  if (!table) return null;
  const slider = at("depth");
  const body = table.tBodies[0];
  const columns = [...table.tHead.rows[0].cells].slice(2).map((th) => th.dataset.by);
  const deepest = Math.max(...nodes.map((node) => node.level));
  const root = rowOf(nodes[0], null, 1n, nodes[0].path, nodes[0].label);
  const MANY = 200; // that many rows below one row are shown without being asked for
  let query = "";

  function rowOf(node, above, times, path, label) {
    const row = { node, above, times, path, label, open: false, apart: null, isApart: false, folded: null };
    row.below = node.children.map((child) => {
      const relative = child.path.slice(node.path.length);
      return rowOf(child, row, times * BigInt(child.local), path + relative, child.label);
    });
    return row;
  }

  function* everyRow(row = root) {
    yield row;
    for (const child of [...row.below, ...(row.apart ?? [])]) yield* everyRow(child);
  }

  /** The rows that stand for what is below a row: each layer instead of the folded ones where they are apart. */
  function standing(row) {
    return row.below.flatMap((child) => (child.isApart ? child.apart : [child]));
  }

  // ---- what is in sight

  /** Show what is open, or what was found with all that is above it. */
  function show() {
    const found = query ? hits() : null;
    const shown = [];
    const visit = (row) => {
      const open = row.below.length > 0 && (found ? standing(row).some((child) => found.has(child)) : row.open);
      const tr = (row.tr ??= built(row));
      tr.querySelector(".twist")?.setAttribute("aria-expanded", open);
      tr.cells[0].classList.toggle("hit", found?.get(row) === true);
      shown.push(tr);
      if (!open) return;
      const below = standing(row).filter((child) => !found || found.has(child));
      below.slice(0, row.whole ? below.length : MANY).forEach(visit);
      if (below.length > MANY && !row.whole) shown.push(moreOf(row, below.length - MANY));
    };
    if (!found || found.size) visit(root);
    const focused = document.activeElement;
    body.replaceChildren(...shown);
    if (body.contains(focused)) focused.focus({ preventScroll: true });
    at("found").textContent = found ? told(found) : "";
  }

  function built(row) {
    const { node } = row;
    const tr = make("tr", "", { class: `l${Math.min(node.level, 24)}` });
    const th = make("th", "", { scope: "row" });
    if (node.children.length) {
      th.append(make("button", "", { type: "button", class: "twist", "aria-label": "open or close" }));
    }
    th.append(make("bdi", row.label || "(model)", { class: named("label", row.label), title: row.path || "the model" }));
    if (row.folded) th.append(" ", timesButton(`${row.number + 1} of ${node.local}`, "fold them again"));
    else if (node.local > 1) th.append(" ", timesButton(`× ${node.local}`, `show each of the ${node.local}`));
    th.append(" ", make("bdi", node.cls, { class: named("cls", node.cls) }));
    const bar = make("td", "", { class: "bar" });
    bar.append(makeBar());
    tr.append(th, bar, ...columns.map((name) => make("td", "", { class: `n ${name}` })));
    tr.classList.toggle("missing", measure(node.line, "uncounted") !== 0n);
    fill(tr, node.line, row.times);
    tr.row = row;
    return tr;
  }

  function named(cls, text) {
    return text.length > 100 ? `${cls} long` : cls;
  }

  /** A row that says how many more there are, and shows them. */
  function moreOf(row, count) {
    const tr = make("tr", "", { class: `l${Math.min(row.node.level + 1, 24)}` });
    const th = make("th", "", { scope: "row", colspan: columns.length + 2 });
    th.append(make("button", `${exact(count)} more below ${row.label || "the model"}`, { type: "button", class: "more" }));
    tr.append(th);
    tr.row = row;
    return tr;
  }

  function timesButton(text, title) {
    return make("button", text, { type: "button", class: "times", title });
  }

  // ---- finding

  /** The rows that match, and with false those above them. */
  function hits() {
    const found = new Map();
    const visit = (row) => {
      const below = standing(row).map(visit).some(Boolean);
      const own = pathsOf(row).some((path) => matches(path, row.node));
      if (own || below) found.set(row, own);
      return own || below;
    };
    visit(root);
    return found;
  }

  function matches(path, node) {
    return path.toLowerCase().includes(query) || node.cls.toLowerCase().includes(query);
  }

  /** The paths of all modules that a row stands for. */
  function pathsOf(row) {
    row.paths ??= !row.above ? [row.path] : pathsOf(row.above).flatMap((parent) => {
      const stem = parent ? `${parent}.` : "";
      if (row.folded || row.node.local === 1) return [stem + row.label];
      return Array.from({ length: row.node.local }, (_, i) => stem + labelOfOne(row.node, i));
    });
    return row.paths;
  }

  function told(found) {
    const rows = [...found].filter(([, own]) => own).map(([row]) => row);
    if (!rows.length) return "nothing found";
    const count = rows.flatMap((row) => pathsOf(row).filter((path) => matches(path, row.node))).length;
    const of = count === rows.length ? "" : ` in ${rows.length} row${rows.length > 1 ? "s" : ""}`;
    return `${count} module${count > 1 ? "s" : ""} found${of}`;
  }

  // ---- opening, closing, taking apart

  /** Put each layer of a folded row in its place. */
  function takeApart(row) {
    const { node, times, above } = row;
    const stem = row.path.slice(0, row.path.length - labelOfOne(node, 0).length);
    row.apart ??= Array.from({ length: node.local }, (_, number) => {
      const label = labelOfOne(node, number);
      return Object.assign(rowOf(node, above, times / BigInt(node.local), stem + label, label), { folded: row, number });
    });
    row.isApart = true;
    show();
    row.apart[0].tr.querySelector("button.times").focus();
  }

  function foldAgain(one) {
    one.folded.isApart = false;
    show();
    one.folded.tr.querySelector("button.times").focus();
  }

  function openTo(depth) {
    for (const row of everyRow()) row.open = row.node.level < depth;
    tellDepth(depth, `${depth} of ${deepest}`);
    show();
  }

  function tellDepth(depth, text) {
    if (!slider) return;
    slider.value = depth;
    at("depth-value").textContent = text;
  }

  body.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { row } = button.closest("tr");
    if (button.matches(".times")) return row.folded ? foldAgain(row) : takeApart(row);
    if (button.matches(".more")) row.whole = true;
    else row.open = !row.open;
    show();
  });
  slider?.addEventListener("input", () => openTo(Number(slider.value)));
  at("expand").addEventListener("click", () => openTo(deepest));
  at("collapse").addEventListener("click", () => openTo(0));
  at("search").addEventListener("input", ({ target }) => {
    query = target.value.trim().toLowerCase();
    show();
    flame?.find(query);
  });

  // at first what matters is open, as in the text report
  const first = new Set(page.shown);
  for (const row of everyRow()) row.open = row.node.children.some((child) => first.has(child.index));
  const open = Math.max(...page.shown.map((i) => nodes[i].level));
  tellDepth(open, page.depth === null ? "what matters" : `${open} of ${deepest}`);
  at("search").value = "";
  show();

  return {
    refill() {
      for (const row of everyRow()) if (row.tr) fill(row.tr, row.node.line, row.times);
    },
  };
})();
