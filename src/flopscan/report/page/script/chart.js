// The flame graph, root on top: d3-flame-graph draws it; what follows gives it data, colours, keys and words.
const flame = (() => {
  const place = at("flame");
  if (!place || typeof flamegraph === "undefined") return null;
  const metrics = [
    ["value", () => labelOf(conventions[view.convention].name)],
    ["flops", () => "FLOPs"],
    ["macs", () => "MACs"],
    ["transcendentals", () => "exp, log, trig"],
    ["bytes", () => "bytes"],
    ["params", () => "parameters"],
    ["time", () => "time bound"],
  ];
  const units = { flops: "FLOP", macs: "MAC", transcendentals: "", bytes: "B", params: "parameters" };
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let metric = "value";
  let query = "";
  let zoomed = null;

  const chart = flamegraph
    .default()
    .inverted(true)
    .cellHeight(24)
    .minFrameSize(1)
    .transitionDuration(still ? 0 : 250)
    .selfValue(false)
    .setLabelHandler((d) => told(d.data))
    .setSearchMatch((d) => query !== "" && d.data.words.includes(query))
    .setSearchHandler(() => {})
    .setDetailsHandler((text) => tell(text ? text : null))
    .onClick((d) => zoomTo(d));

  // ---- data

  /** The frames of a node and all below it: one for identical layers together, or each apart. */
  function framesOf(node, times, apart, label = node.label) {
    const each = BigInt(node.local);
    if (apart && node.local > 1) {
      return Array.from({ length: node.local }, (_, i) => frame(node, times, apart, labelOfOne(node, i)));
    }
    return [frame(node, times * each, apart, label, node.local > 1)];
  }

  function frame(node, times, apart, label, folded = false) {
    const children = node.children.flatMap((child) => framesOf(child, times, apart));
    if (metric !== "params") children.push(...node.operators.map((own) => leaf(own, times)));
    const [value, amount] = sizeOf(node, times);
    const name = `${label || "(model)"}${folded ? ` × ${node.local}` : ""}`;
    const least = metric !== "params" && measure(node.line, "uncounted") !== 0n;
    return {
      name, value, amount, least, node, children: children.filter((child) => child.value > 0),
      family: node.family, remark: node.cls, words: `${name} ${node.path} ${node.cls}`.toLowerCase(),
    };
  }

  function leaf(own, times) {
    const { name, family } = own;
    const short = name.replace(/^.*(::|\.)(?=.)/, "");
    const [value, amount] = sizeOf(own, times);
    return { name: short, value, amount, family, remark: name, words: name.toLowerCase() };
  }

  /** The width of a frame, and its amount with all digits: a time has none. */
  function sizeOf({ line, time }, times) {
    if (metric === "time") return [(time ?? 0) * Number(times), null];
    const amount = measure(line, metric) * times;
    return [Math.max(0, Number(amount)), amount];
  }

  // ---- words

  let whole = null;

  /** What a frame is, in one line with all digits. */
  function told({ name, remark, value, amount, least }) {
    const size = (least ? "≥ " : "") + (amount === null ? duration(value) : `${exact(amount)} ${unit()}`.trim());
    const timed = [value, whole.value].map((time) => BigInt(Math.round(time * 1e15)));
    const share = percent(...(amount === null ? timed : [amount, whole.amount]));
    const names = `${name}${remark ? ` (${remark})` : ""}`.replace(/[\u202a-\u202e\u2066-\u2069]/g, "");
    return `${names}: ${size}, ${share} of the whole`;
  }

  function unit() {
    return metric === "value" ? conventions[view.convention].unit : units[metric];
  }

  function tell(text) {
    at("frame").textContent = text ?? told((zoomed ?? { data: whole }).data);
  }

  // ---- drawing

  /** The chart from the data as they are now; a zoom is left. */
  function draw() {
    whole = framesOf(nodes[0], 1n, at("apart").checked)[0];
    zoomed = null;
    place.replaceChildren();
    if (whole.value > 0) {
      chart.width(place.clientWidth).height((depthOf(whole) + 1) * 24);
      d3.select(place).datum(whole).call(chart);
      dress();
      if (query) chart.search(query);
    } else {
      place.append(make("p", `This model has no ${metrics.find(([key]) => key === metric)[1]()}.`));
    }
    tell(null);
    at("unzoom").disabled = true;
  }

  function depthOf({ children = [] }) {
    return children.length ? 1 + Math.max(...children.map(depthOf)) : 0;
  }

  function zoomTo(d) {
    zoomed = d.parent ? d : null;
    at("unzoom").disabled = !zoomed;
    dress();
    focusable(d);
    tell(null);
  }

  /** Colours, names for who does not see, and one frame that the Tab key stops at. */
  function dress() {
    const svg = d3.select(place).select("svg");
    svg.attr("role", "group").attr("aria-label", "Shares of the model's parts");
    svg.attr("viewBox", `0 0 ${chart.width()} ${chart.height()}`); // so that it shrinks on paper
    svg
      .selectAll("g.frame")
      .attr("data-family", ({ data, children }) => (data.node && children ? "module" : data.family || "other"))
      .attr("role", "button")
      .attr("tabindex", -1)
      .attr("aria-label", (d) => told(d.data))
      .classed("hit", (d) => d.highlight === true)
      .on("focus", (_, d) => tell(told(d.data)))
      .on("keydown", steer);
    svg.select("g.frame").attr("tabindex", 0);
  }

  function focusable(d) {
    const frames = d3.select(place).selectAll("g.frame");
    frames.attr("tabindex", (other) => (other === d ? 0 : -1));
    const frame = frames.filter((other) => other === d).node();
    if (frame && place.contains(document.activeElement)) frame.focus();
  }

  /** Arrows go from frame to frame, Enter looks into one, Escape looks at the whole again. */
  function steer(event, d) {
    const row = d.parent ? d.parent.children : [d];
    const goes = {
      ArrowUp: () => d.parent,
      ArrowDown: () => d.children?.find((child) => child.value > 0),
      ArrowLeft: () => row[row.indexOf(d) - 1],
      ArrowRight: () => row[row.indexOf(d) + 1],
    };
    if (event.key in goes) {
      const next = goes[event.key]();
      if (next) focusable(next);
    } else if (event.key === "Enter" || event.key === " ") chart.zoomTo(d);
    else if (event.key === "Escape") chart.resetZoom();
    else return;
    event.preventDefault();
  }

  // ---- controls

  function showMetrics() {
    const name = conventions[view.convention].name;
    const hidden = new Set([{ flops: "flops", macs: "macs" }[name], page.roofline ? "" : "time"]);
    if (hidden.has(metric)) metric = "value";
    const buttons = metrics
      .filter(([key]) => !hidden.has(key))
      .map(([key, label]) => {
        const said = { type: "button", role: "radio", "aria-checked": key === metric, "data-metric": key };
        const button = make("button", label(), said);
        button.tabIndex = key === metric ? 0 : -1;
        return button;
      });
    at("metrics").replaceChildren(...buttons);
  }

  function choose(key) {
    metric = key;
    showMetrics();
    draw();
    at("metrics").querySelector("[aria-checked=true]").focus();
  }

  at("metrics").addEventListener("click", ({ target }) => {
    if (target.dataset.metric) choose(target.dataset.metric);
  });
  at("metrics").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...at("metrics").children];
    const now = buttons.findIndex((button) => button.tabIndex === 0);
    choose(buttons[(now + step + buttons.length) % buttons.length].dataset.metric);
    event.preventDefault();
  });
  at("apart-label").hidden = nodes.every((node) => node.local === 1);
  at("apart").addEventListener("change", draw);
  at("unzoom").addEventListener("click", () => chart.resetZoom());
  const printed = matchMedia("print"); // on paper the picture shrinks; frames drawn anew would not be ready
  new ResizeObserver(() => {
    if (!printed.matches && place.clientWidth !== chart.width() && place.clientWidth > 0) draw();
  }).observe(place);

  return {
    refill() {
      showMetrics();
      draw();
    },
    /** Mark the frames in which a word is found. */
    find(word) {
      query = word;
      if (!whole || whole.value <= 0) return;
      chart.search(query);
      dress();
    },
  };
})();
