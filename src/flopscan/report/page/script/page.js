// The controls of the whole page.

/** The command that gives the count again under the chosen convention. */
function again() {
  const { name } = conventions[view.convention];
  return page.again && name !== "flops" ? `${page.again} --convention ${name}` : page.again;
}

/** What is wrong with the chosen convention's number: kernels that it has as zero, known mistakes. */
function tellWarnings() {
  const { name, unit, mistakes, zero } = conventions[view.convention];
  const kernels = zero.flatMap(([op, calls], i) => [i ? ", " : "", make("bdi", op), ` × ${exact(calls)}`]);
  at("at-zero").replaceChildren(...(kernels.length ? [`${name} counts as zero: `, ...kernels, "."] : []));
  const items = mistakes.map((one) => {
    const item = make("li");
    const said = ` of it is a mistake: ${one.name} (${one.source}). Without it: `;
    item.append(make("b", `${one.amount > 0n ? "+" : ""}${exact(one.amount)} ${unit}`), said, make("code", `${name}~${one.key}`));
    return item;
  });
  at("mistakes").replaceChildren(...items);
  at("warnings").hidden = !kernels.length && !items.length;
}

/** Every number that the chosen convention makes. */
function refill() {
  const chosen = conventions[view.convention];
  const least = page.uncounted.length ? "≥ " : "";
  const [short, unit] = at("value").children;
  short.textContent = least + si(chosen.total);
  unit.textContent = chosen.unit;
  at("value-whole").textContent = `${least}${exact(chosen.total)} ${chosen.unit}`;
  for (const element of document.querySelectorAll("b.convention")) element.textContent = chosen.name;
  for (const cell of document.querySelectorAll("table.counts th.value")) {
    (cell.querySelector("button") ?? cell).textContent = labelOf(chosen.name);
  }
  at("said-unit").textContent = chosen.unit;
  at("said-summary").textContent = chosen.summary;
  at("said-source").textContent = chosen.source;
  if (at("again")) at("again").textContent = again() + page.wish;
  document.body.dataset.convention = chosen.name;
  for (const row of document.querySelectorAll("tr[data-convention]")) {
    row.classList.toggle("chosen", row.dataset.convention === chosen.name);
  }
  tellWarnings();
  for (const part of [tree, ...tables]) part?.refill();
  if (at("free")) tellFree();
}

at("convention").value = view.convention;
at("convention").addEventListener("change", ({ target }) => {
  view.convention = Number(target.value);
  refill();
  flame?.refill();
});

at("digits").checked = false;
at("digits").addEventListener("change", ({ target }) => {
  view.digits = target.checked;
  refill();
  for (const cell of document.querySelectorAll("[data-whole]")) put(cell, BigInt(cell.dataset.whole.replaceAll(",", "")));
});

const dark = matchMedia("(prefers-color-scheme: dark)");
function showTheme() {
  const is = (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  at("theme").textContent = is ? "light" : "dark";
  at("theme").title = is ? "to the light theme" : "to the dark theme";
  at("theme").setAttribute("aria-pressed", is);
  return is;
}
at("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = showTheme() ? "light" : "dark";
  showTheme();
});
dark.addEventListener("change", showTheme);

for (const button of document.querySelectorAll("[data-save]")) {
  button.addEventListener("click", () => save(button.dataset.save));
}

at("copy")?.addEventListener("click", async ({ target }) => {
  const text = at("again").textContent;
  try {
    await navigator.clipboard.writeText(text);
    target.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(at("again"));
    target.textContent = "selected";
  }
  setTimeout(() => (target.textContent = "copy"), 1500);
});

document.documentElement.classList.add("scripted");
showTheme();
flame?.refill();
