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
    const longest = Math.max(...points.map((p) => p.seconds));
    const radius = d3.scaleSqrt([0, longest], [3, 14]);
    const circles = [...points].sort((a, b) => b.seconds - a.seconds).map((point) => {
      const under = point.rate < 0.9 * point.intensity * bandwidth;
      const name = point.name.replace(/^\w+::/, "");
      return { point, name, under, cx: x(point.intensity), cy: y(point.rate), r: radius(point.seconds) };
    });
    const taken = circles.map(({ cx, cy, r }) => [cx - r, cy - r, cx + r, cy + r]);
    drawRoofs(svg, x, y, wide, taken);
    drawPoints(svg, circles);
    drawNames(svg, placed(circles.slice(0, 4), taken, x.range()));
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
  function drawRoofs(svg, x, y, wide, taken) {
    const [from, to] = x.domain();
    const ridge = Math.max(...ceilings.map(({ rate }) => rate)) / bandwidth;
    svg.append("line").attr("class", "roof").attr("x1", x(from)).attr("y1", y(from * bandwidth))
      .attr("x2", x(Math.min(ridge, to))).attr("y2", y(Math.min(ridge, to) * bandwidth));
    for (const { name, rate } of ceilings) {
      const start = Math.max(from, rate / bandwidth);
      svg.append("line").attr("class", "roof").attr("x1", x(start)).attr("y1", y(rate)).attr("x2", x(to)).attr("y2", y(rate));
      const boxOf = (dy) => [wide - right - 6.8 * name.length, y(rate) + dy - 10, wide - right, y(rate) + dy + 3];
      const dy = [-5, 14, -18, 28].find((way) => !meets(boxOf(way), taken)) ?? -5;
      taken.push(boxOf(dy));
      svg.append("text").attr("class", "label").attr("x", wide - right).attr("y", y(rate) + dy).attr("text-anchor", "end")
        .text(name);
    }
  }

  function meets([left, top, right, bottom], boxes) {
    return boxes.some(([x0, y0, x1, y1]) => x0 < right && left < x1 && y0 < bottom && top < y1);
  }

  /** Where the names of the points stand: beside their circles, on no circle, on no other name, and off the slope. */
  function placed(named, taken, [from, to]) {
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
        if (!inside || meets(box, taken)) continue;
        taken.push(box);
        found.push({ name, anchor, x: cx + dx, y: cy + dy });
        break;
      }
    }
    return found;
  }

  /** A circle for each operator, as large as its share of the time. */
  function drawPoints(svg, circles) {
    const groups = svg.append("g").selectAll("g").data(circles).join("g").attr("class", "point")
      .attr("data-bound", ({ point }) => point.bound_by).attr("transform", ({ cx, cy }) => `translate(${cx},${cy})`);
    groups.append("circle").attr("r", ({ r }) => r);
    groups.append("title").text(({ point: p }) => {
      const where = `${p.name}: ${p.intensity.toPrecision(3)} FLOP/B`;
      return `${where}, at least ${duration(p.seconds)}, bound by ${page.units[p.bound_by]}`;
    });
  }

  function drawNames(svg, names) {
    svg.append("g").attr("class", "names").selectAll("text").data(names).join("text").attr("class", "label")
      .attr("x", ({ x }) => x).attr("y", ({ y }) => y).attr("text-anchor", ({ anchor }) => anchor).text(({ name }) => name);
  }

  new ResizeObserver(() => place.clientWidth > 0 && draw()).observe(place);
  return { draw };
})();
