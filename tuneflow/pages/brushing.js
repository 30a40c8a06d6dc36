// Ranges along the axes of parallel coordinates keep the trials that cross all of them, in every chart and table.
for (const [svg, chart] of charts) {
  const axes = all("g.brush", svg).map((group) => {
    const [[x, top], [, bottom]] = corners(group.querySelector("path").getAttribute("d").slice(1));
    return { group, x, top, bottom, range: null };
  });
  if (axes.length) brush(svg, chart, axes);
}

function brush(svg, chart, axes) {
  const inputs = axes.map((axis) => filters(axis));
  const form = document.createElement("details");
  form.append(Object.assign(document.createElement("summary"), { textContent: "Filter by ranges" }), ...inputs);
  form.className = "filters";
  svg.closest("figure").after(form);
  axes.forEach((axis) => drag(axis));

  function filters(axis) {
    const field = document.createElement("fieldset");
    const name = axis.group.querySelector("title").textContent;
    field.append(Object.assign(document.createElement("legend"), { textContent: name }));
    axis.ends = ["from", "to"].map((word, at) => {
      const input = document.createElement("input");
      Object.assign(input, { type: "range", min: 0, max: 100, value: 100 * at, ariaLabel: `${name} ${word}` });
      input.addEventListener("input", () => {
        const ends = axis.ends.map((one) => +one.value);
        set(axis, ends[0] > 0 || ends[1] < 100 ? [Math.min(...ends), Math.max(...ends)] : null);
      });
      field.append(input);
      return input;
    });
    return field;
  }

  function drag(axis) {
    const { x, top, bottom, group } = axis;
    const place = (event) => clamp((100 * (bottom - chart.at(event)[1])) / (bottom - top), -20, 100);
    axis.mark = group.insertBefore(document.createElementNS(SVG, "rect"), group.querySelector("text"));
    const handle = group.appendChild(document.createElementNS(SVG, "rect"));
    for (const [name, number] of Object.entries({ x: x - 14, y: top - 6, width: 28, height: bottom - top + 40 })) {
      handle.setAttribute(name, number);
    }
    handle.setAttribute("class", "handle");
    let start = null;
    handle.addEventListener("pointerdown", (event) => {
      start = place(event);
      handle.setPointerCapture(event.pointerId);
    });
    handle.addEventListener("pointermove", (event) => {
      if (start === null) return;
      const ends = [start, place(event)];
      set(axis, Math.abs(ends[0] - ends[1]) < 1 ? null : [Math.min(...ends), Math.max(...ends)]);
    });
    handle.addEventListener("pointerup", (event) => {
      if (Math.abs(place(event) - start) < 1) set(axis, null);
      start = null;
    });
  }

  function set(axis, range) {
    const { x, top, bottom } = axis;
    axis.range = range;
    const [low, high] = range ?? [0, 0];
    const sizes = { class: "range", x: x - 6, width: 12, y: bottom - (high * (bottom - top)) / 100, height: ((high - low) * (bottom - top)) / 100 };
    for (const [name, number] of Object.entries(sizes)) axis.mark.setAttribute(name, number);
    (range ?? [0, 100]).forEach((end, at) => { axis.ends[at].value = end; });
    keep();
  }

  function keep() {
    const crosses = ({ points }) => axes.every(({ range, top, bottom }, at) => {
      const place = (100 * (bottom - points[at][1])) / (bottom - top);
      return !range || (place >= range[0] - 0.5 && place <= range[1] + 0.5);
    });
    const some = axes.some(({ range }) => range);
    const kept = new Set(chart.parts.filter(crosses).map((part) => part.trial));
    for (const other of charts.values()) {
      other.svg.classList.toggle("filtered", some);
      other.draw(other.kept, (trial) => some && kept.has(trial));
    }
    rows.forEach((row, trial) => row.classList.toggle("off", some && !kept.has(trial)));
  }
}
