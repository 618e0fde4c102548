// What the page holds, unpacked: conventions, lines of numbers, modules, the folded tree.
const page = JSON.parse(document.getElementById("data").textContent);
page.scan = revived(page.scan);
page.roofline = revived(page.roofline);
const conventions = page.conventions.map(([name, unit, summary, source, total, mistakes, zero]) => ({
  name, unit, summary, source, total: BigInt(total),
  mistakes: mistakes.map((one) => ({ ...one, amount: BigInt(one.amount) })),
  zero: Object.entries(zero).map(([op, calls]) => [op, BigInt(calls)]),
}));
const MEASURE = Object.fromEntries(page.pool.measures.map((name, place) => [name, place]));
const lines = page.pool.lines.map(([pattern, distinct, measures]) => ({
  pattern: page.pool.patterns[pattern],
  distinct: distinct.map(BigInt),
  measures: measures.map(BigInt),
}));
const modules = page.modules.map(([path, cls, line]) => ({ path, cls, line: lines[line] }));
const operators = page.operators.map(([name, line]) => ({ name, line: lines[line] }));
const phases = page.phases.map(([name, line]) => ({ name, line: lines[line] }));
const sources = page.lines.map(([name, line]) => ({ name, line: lines[line] }));
const total = lines[page.total];

/** Data with whole numbers instead of the texts that stand for those beyond what a number holds. */
function revived(value) {
  if (typeof value === "string" && /^-?\d{16,}$/.test(value)) return BigInt(value);
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(revived);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, revived(item)]));
}

// what the reader has chosen
const view = { convention: page.chosen, digits: false };

/** A convention at the head of a column. */
function labelOf(name) {
  return { flops: "FLOPs", macs: "MACs" }[name] ?? name;
}

/** What a line comes to under a convention, by its place. */
function valueOf(line, convention = view.convention) {
  return line.distinct[line.pattern[convention]];
}

/** A number that no convention changes, or the sum of two. */
function measure(line, name) {
  if (name === "value") return valueOf(line);
  if (name === "bytes") return measure(line, "bytes_read") + measure(line, "bytes_written");
  return line.measures[MEASURE[name]];
}

/** Whether a line has a number to show under the chosen convention. */
function costs(line) {
  return ["value", "uncounted", "arithmetic", "bytes"].some((name) => measure(line, name) !== 0n);
}

// what a table sorts its lines by, largest first
function byImportance(a, b) {
  for (const name of ["value", "arithmetic", "bytes"]) {
    const [one, two] = [measure(a.line, name), measure(b.line, name)];
    if (one !== two) return one > two ? -1 : 1;
  }
  return 0;
}

const nodes = [];
for (const [parent, module, label, members, family, own, time] of page.nodes) {
  const above = nodes[parent];
  const local = members.length ?? members;
  const node = {
    ...modules[module], index: nodes.length, above, label, members, local, family, time, children: [],
    level: above ? above.level + 1 : 0,
    operators: own.map(([name, group, line, time]) => ({ name, family: group, line: lines[line], time })),
  };
  if (above) above.children.push(node);
  nodes.push(node);
}

/** The label of one of the siblings that are folded: of "blocks.0-11" and 3 it is "blocks.3". */
function labelOfOne(node, number) {
  return node.members[number] ?? node.label.replace(/0-\d+$/, number);
}
