"use strict";

// Charts, rows and links that belong to one trial light up together. A path with data-t has a part for each of those
// trials, which begins with its only M; nothing is read from it before a chart is pointed at or focused.
const SVG = "http://www.w3.org/2000/svg";
const REACH = 14; // pixels on the screen from the pointer to a trial

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function numbers(text) {
  return text.split(" ").flatMap((run) => {
    const [first, last = first] = run.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, at) => first + at);
  });
}

// The corners of a part; of relative moves only the first point counts.
const corners = (d) => [...d.matchAll(/(?:^|L)(-?[\d.]+) (-?[\d.]+)/g)].map((pair) => [+pair[1], +pair[2]]);

function distance([x, y], [ax, ay], [bx, by]) {
  const [dx, dy] = [bx - ax, by - ay];
  const along = dx || dy ? clamp(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1) : 0;
  return Math.hypot(ax + along * dx - x, ay + along * dy - y);
}

class Chart {
  constructor(svg) {
    this.svg = svg;
    this.paths = all("path[data-t]", svg);
    this.kept = this.layer("kept");
    this.lit = this.layer("lit");
  }

  layer(name) {
    const group = document.createElementNS(SVG, "g");
    group.setAttribute("class", name);
    return this.svg.appendChild(group);
  }

  get parts() {
    this.read ??= this.paths.flatMap((path) => {
      const pieces = path.getAttribute("d").split("M").slice(1);
      return numbers(path.dataset.t).map((trial, at) => ({ trial, path, d: pieces[at], points: corners(pieces[at]) }));
    });
    return this.read;
  }

  get trials() {
    this.order ??= [...new Set(this.parts.map((part) => part.trial))].sort((a, b) => a - b);
    return this.order;
  }

  // Draw the parts of trials again, over the others.
  draw(layer, wanted) {
    const drawn = this.paths.map((path) => {
      const d = this.parts.filter((part) => part.path === path && wanted(part.trial)).map((part) => `M${part.d}`);
      const copy = document.createElementNS(SVG, "path");
      copy.setAttribute("class", path.getAttribute("class"));
      copy.setAttribute("d", d.join(""));
      return d.length ? copy : "";
    });
    layer.replaceChildren(...drawn);
  }

  at(event) {
    const box = this.svg.getBoundingClientRect();
    const scale = this.svg.viewBox.baseVal.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale, scale];
  }

  nearest(event) {
    const [x, y, scale] = this.at(event);
    let [best, least] = [null, REACH * scale];
    for (const { trial, points } of this.parts) {
      for (let at = 0; at < points.length; at++) {
        const far = distance([x, y], points[Math.max(0, at - 1)], points[at]);
        if (far <= least) [best, least] = [trial, far];
      }
    }
    return best;
  }
}

const charts = new Map(all("svg.chart").filter((svg) => svg.querySelector("path[data-t]")).map((svg) => [svg, new Chart(svg)]));
const rows = new Map(trialRows.map((row) => [+row.dataset.t, row]));
const tip = document.body.appendChild(document.createElement("output"));
tip.className = "tip";
let shown = null;
let pinned = null;

function words(trial) {
  const row = rows.get(trial);
  if (!row) return `trial ${trial}`;
  const names = all("thead th", trialTable).map((cell) => cell.textContent);
  const cells = [...row.cells].map((cell, at) => [names[at], cell.textContent]);
  return cells.filter(([, text]) => text && text !== "-").map((pair) => pair.join(" ")).join("\n");
}

function show(trial, event = null) {
  if (trial !== shown) {
    shown = trial;
    for (const chart of charts.values()) chart.draw(chart.lit, (other) => other === trial);
    all(".on").forEach((one) => one.classList.remove("on"));
    if (trial !== null) all(`[data-t="${trial}"]:not(path)`).forEach((one) => one.classList.add("on"));
    tip.textContent = trial === null ? "" : words(trial);
  }
  if (event && trial !== null) {
    tip.style.left = `${clamp(event.clientX + 16, 0, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${clamp(event.clientY + 16, 0, innerHeight - tip.offsetHeight - 8)}px`;
  }
}

let waiting = null; // the last move, until the next frame
document.addEventListener("pointermove", (event) => {
  if (waiting === null) requestAnimationFrame(() => { point(waiting); waiting = null; });
  waiting = event;
});

function point(event) {
  const chart = charts.get(event.target.closest?.("svg"));
  const linked = event.target.closest?.("tr[data-t], a[data-t]");
  const trial = chart ? chart.nearest(event) : linked ? +linked.dataset.t : null;
  tip.hidden = !chart;
  show(trial ?? pinned, event);
}

document.addEventListener("click", (event) => {
  const chart = charts.get(event.target.closest?.("svg"));
  if (chart && !event.target.matches(".handle")) show((pinned = chart.nearest(event)), event);
});

document.addEventListener("focusin", (event) => {
  const linked = event.target.closest("tr[data-t], a[data-t]");
  if (linked) show(+linked.dataset.t);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") show((pinned = null));
  const chart = charts.get(event.target);
  const { trials } = chart ?? {};
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!chart || !(step || event.key === "Enter")) return;
  event.preventDefault();
  if (!step) {
    reach(`#trial-${pinned}`);
    return rows.get(pinned)?.scrollIntoView({ block: "center" });
  }
  const at = trials.indexOf(pinned);
  pinned = trials[at < 0 ? 0 : (at + step + trials.length) % trials.length];
  const box = event.target.getBoundingClientRect();
  tip.hidden = false;
  show(pinned, { clientX: box.left, clientY: box.top });
});

for (const svg of charts.keys()) {
  if (!svg.matches(".strip")) svg.setAttribute("tabindex", "0");
}
