// The tables as files, made here: the report as flopscan writes it, and a table for a spreadsheet.
const ROW = ["value", "flops", "macs", "transcendentals", "bytes_read", "bytes_written", "params", "calls", "uncounted"];

function numbersOf(line) {
  return Object.fromEntries(ROW.map((name) => [name, measure(line, name)]));
}

/** What a report has a row of under the chosen convention, largest first. */
function counted(items) {
  return items.filter(({ line }) => measure(line, "calls") || valueOf(line)).sort(byImportance);
}

function rowsOf(items) {
  return counted(items).map(({ name, line }) => ({ name, ...numbersOf(line) }));
}

/** The report under the chosen convention, as Report.to_dict of flopscan gives it. */
function reportNow() {
  const { name, unit, mistakes, zero } = conventions[view.convention];
  const sums = numbersOf(total);
  const { calls, uncounted, ...totals } = sums;
  return {
    schema: page.report, executed_flops: BigInt(page.executed), target: page.target, inputs: page.inputs, convention: name, value: totals.value, unit,
    ...totals, kinds: Object.fromEntries(Object.entries(page.kinds).map(([kind, n]) => [kind, BigInt(n)])),
    by_module: modules.map(({ path, cls, line }) => ({ name: path, ...(cls && { class: cls }), ...numbersOf(line) })),
    by_operator: rowsOf(operators), by_phase: rowsOf(phases), mistakes, kernels_at_zero: Object.fromEntries(zero),
    uncounted: page.uncounted.map((row) => ({ ...row, count: BigInt(row.count) })), scan: page.scan, notes: page.notes, versions: page.versions, route: page.route,
    again: again(), ...(page.roofline && { roofline: page.roofline }),
  };
}

/** JSON text with whole numbers of any size. */
function written(value, indent = "") {
  if (typeof value === "bigint") return value.toString();
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const inner = `${indent}  `;
  const parts = Array.isArray(value)
    ? value.map((item) => written(item, inner))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${written(item, inner)}`);
  return parts.length ? `${open}\n${inner}${parts.join(`,\n${inner}`)}\n${indent}${close}` : open + close;
}

/** Rows as CSV; a text that a spreadsheet would take for a formula gets an apostrophe. */
function csv(first, rows) {
  const { name: convention, unit } = conventions[view.convention];
  const header = [...first, ...ROW, "convention", "unit"];
  const lines = rows.map(({ texts, line }) => {
    return [...texts.map(cellOf), ...Object.values(numbersOf(line)), ...[convention, unit].map(cellOf)].join(",");
  });
  return [header.join(","), ...lines, ""].join("\r\n");
}

function cellOf(text) {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

const SAVED = {
  json: () => ["json", "application/json", `${written(reportNow())}\n`],
  modules: () => {
    const rows = modules.map(({ path, cls, line }) => ({ texts: [path, cls], line }));
    return ["modules.csv", "text/csv", csv(["module", "class"], rows)];
  },
  operators: () => {
    const rows = counted(operators).map(({ name, line }) => ({ texts: [name], line }));
    return ["operators.csv", "text/csv", csv(["operator"], rows)];
  },
};

/** Hand the reader a file. */
function save(kind) {
  const [suffix, type, text] = SAVED[kind]();
  const address = URL.createObjectURL(new Blob([text], { type }));
  const stem = page.target.replace(/[^\w.-]+/g, "_").slice(0, 60) || "report";
  const link = make("a", "", { href: address, download: `${stem}.${conventions[view.convention].name}.${suffix}` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
