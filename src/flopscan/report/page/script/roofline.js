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

  /** Where the names of the points stand: beside their circles, on no circle, on no other name, and off the slope. */
  function placed(named, circles, [from, to], y) {
    const taken = circles.map(({ cx, cy, r }) => [cx - r, cy - r, cx + r, cy + r]);
    for (const { name, rate } of ceilings) taken.push([to - 6.8 * name.length, y(rate) - 16, to, y(rate) + 2]);
    const found = [];
    for (const { name, cx, cy, r, under } of named) {
      const wide = 6.8 * name.length;
      const ways = [0, 14, 28].flatMap((more) => {
        const above = { anchor: "end", dx: -0.3 * r, dy: -r - 4 - more };
        const below = { anchor: "start", dx: 0.3 * r, dy: r + 12 + more };
        return under ? [below] : [above, below];
      });
      for (const { anchor, dx, dy } of ways) {
        const start = cx + dx - (anchor === "end" ? wide : 0);
        const box = [start, cy + dy - 10, start + wide, cy + dy + 3];
        const inside = box[0] >= from && box[2] <= to && box[1] >= top && box[3] <= height - bottom;
        const others = taken.filter(([x0, y0, x1, y1]) => x0 < box[2] && box[0] < x1 && y0 < box[3] && box[1] < y1);
        if (!inside || others.length) continue;
        taken.push(box);
        found.push({ name, anchor, x: cx + dx, y: cy + dy });
        break;
      }
    }
    return found;
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
    const circles = groups.data().map((p) => {
      const name = p.name.replace(/^\w+::/, "");
      const under = p.rate < 0.9 * p.intensity * bandwidth;
      return { name, cx: x(p.intensity), cy: y(p.rate), r: radius(p.seconds), under };
    });
    svg.append("g").attr("class", "names").selectAll("text").data(placed(circles.slice(0, 4), circles, x.range(), y)).join("text")
      .attr("class", "label").attr("x", (n) => n.x).attr("y", (n) => n.y).attr("text-anchor", (n) => n.anchor)
      .text((n) => n.name);
  }

  new ResizeObserver(() => place.clientWidth > 0 && draw()).observe(place);
  return { draw };
})();
