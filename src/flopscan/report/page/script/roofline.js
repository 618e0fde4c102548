// The roofline: what a device can do at most at each arithmetic intensity, and where the operators are.
const roofline = (() => {
  const place = at("roof");
  const bound = page.roofline;
  if (!place || !bound || typeof d3 === "undefined") return null;
  const [height, left, right, top, bottom] = [340, 64, 16, 12, 44];
  const points = bound.points
    .filter(({ flops, intensity, seconds }) => flops > 0 && intensity > 0 && seconds > 0)
    .map((point) => ({ ...point, rate: Number(point.flops) / point.seconds }));
  const bandwidth = bound.rates.memory;
  const ceilings = ["matrix", "vector"] // special functions are no FLOPs: the colour of a point tells of them
   
    .filter((unit) => bound.rates[unit])
    .map((unit) => ({ name: page.units[unit], rate: bound.rates[unit] }));
  if (!points.length || !bandwidth || !ceilings.length) return null;

  function draw() {
    const wide = place.clientWidth;
    const peak = Math.max(...ceilings.map(({ rate }) => rate));
    const xs = [...points.map((p) => p.intensity), peak / bandwidth];
    const x = d3.scaleLog([Math.min(...xs) / 4, Math.max(...xs) * 8], [left, wide - right]);
    const lowest = Math.min(...points.map((p) => p.rate), bandwidth * x.domain()[0]);
    const y = d3.scaleLog([lowest / 2, peak * 2], [height - bottom, top]);
    const svg = d3.create("svg").attr("width", wide).attr("height", height).attr("role", "img")
      .attr("viewBox", `0 0 ${wide} ${height}`)
      .attr("aria-label", `Roofline of ${bound.title}: the table below has its points`);
    drawAxes(svg, x, y, wide);
    drawRoofs(svg, x, y, wide);
    drawPoints(svg, x, y);
    place.replaceChildren(svg.node());
  }

  function drawAxes(svg, x, y, wide) {
    const few = Math.max(3, Math.floor(wide / 110));
    svg.append("g").attr("class", "axis").attr("transform", `translate(0,${height - bottom})`)
      .call(d3.axisBottom(x).ticks(few, "~g").tickSizeOuter(0));
    svg.append("g").attr("class", "axis").attr("transform", `translate(${left},0)`)
      .call(d3.axisLeft(y).ticks(6, "~s").tickSizeOuter(0));
    svg.append("text").attr("class", "label").attr("x", wide - right).attr("y", height - 8).attr("text-anchor", "end")
      .text("FLOP/B");
    svg.append("text").attr("class", "label").attr("x", left + 6).attr("y", top + 8).text("FLOP/s");
  }

  /** The slope of the memory, and a line for each ceiling, no further left than where the memory allows it. */
  function drawRoofs(svg, x, y, wide) {
    const [from, to] = x.domain();
    const ridge = Math.max(...ceilings.map(({ rate }) => rate)) / bandwidth;
    svg.append("line").attr("class", "roof").attr("x1", x(from)).attr("y1", y(from * bandwidth))
      .attr("x2", x(Math.min(ridge, to))).attr("y2", y(Math.min(ridge, to) * bandwidth));
    for (const { name, rate } of ceilings) {
      const start = Math.max(from, rate / bandwidth);
      svg.append("line").attr("class", "roof").attr("x1", x(start)).attr("y1", y(rate)).attr("x2", x(to)).attr("y2", y(rate));
      svg.append("text").attr("class", "label").attr("x", wide - right).attr("y", y(rate) - 5).attr("text-anchor", "end")
        .text(name);
    }
  }

  /** A circle for each operator, as large as its share of the time; the largest have their names beside them. */
  function drawPoints(svg, x, y) {
    const longest = Math.max(...points.map((p) => p.seconds));
    const radius = d3.scaleSqrt([0, longest], [3, 14]);
    const groups = svg.append("g").selectAll("g")
      .data([...points].sort((a, b) => b.seconds - a.seconds)).join("g").attr("class", "point")
      .attr("data-bound", (p) => p.bound_by).attr("transform", (p) => `translate(${x(p.intensity)},${y(p.rate)})`);
    groups.append("circle").attr("r", (p) => radius(p.seconds));
    groups.append("title").text((p) => {
      const where = `${p.name}: ${p.intensity.toPrecision(3)} FLOP/B`;
      return `${where}, at least ${duration(p.seconds)}, bound by ${page.units[p.bound_by]}`;
    });
    groups.filter((_, i) => i < 4).append("text").attr("class", "label").attr("y", (p) => -radius(p.seconds) - 4)
      .attr("text-anchor", "middle").text((p) => p.name.replace(/^\w+::/, ""));
  }

  new ResizeObserver(() => place.clientWidth > 0 && draw()).observe(place);
  return { draw };
})();
