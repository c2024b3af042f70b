// One plot over the last minutes: uPlot draws, in the stylesheet's colours.

import * as format from "./format.js";

const KEEP = 600; // points
const SHOWN = 300; // seconds
const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";

export class Plot {
  constructor(id, { colour, format, ticks = format, least }) {
    Object.assign(this, { colour, format, ticks, least });
    this.card = document.getElementById(id);
    this.plot = this.card.querySelector(".plot");
    this.plot.role = "img";
    this.plot.ariaLabel = `${this.card.querySelector("h2").textContent}, plotted over time; the newest value stands above`;
    this.data = [[], []];
    this.restyle();
    new ResizeObserver(() => this.uplot.setSize(this.#size())).observe(this.plot);
  }

  // All at once, when a stream begins.
  fill(times, values) {
    this.data = [[...times], [...values]];
  }

  add(time, value) {
    const [times, values] = this.data;
    if (time <= (times.at(-1) ?? 0)) return;
    times.push(time);
    values.push(value);
    if (times.length > KEEP) {
      times.shift();
      values.shift();
    }
  }

  // Colours are read when uPlot is made; another theme is another plot with the same data.
  restyle() {
    this.uplot?.destroy();
    this.uplot = new uPlot(this.#options(), this.data, this.plot);
  }

  draw() {
    this.uplot.setData(this.data);
    this.card.querySelector(".headline").textContent = this.format(this.hovered ?? this.data[1].at(-1));
  }

  #options() {
    const style = getComputedStyle(document.documentElement);
    // light-dark() is resolved where a property uses it, not in a custom one.
    const resolve = (value) => {
      this.plot.style.color = value;
      return getComputedStyle(this.plot).color;
    };
    const axis = { stroke: resolve("var(--muted)"), font: FONT, ticks: { show: false }, grid: { stroke: resolve("var(--line)"), width: 1 } };
    const stroke = resolve(`var(--${this.colour})`);
    const fill = resolve(`color-mix(in srgb, var(--${this.colour}) 14%, transparent)`);
    this.plot.style.color = "";
    return {
      ...this.#size(style),
      padding: [8, 28, 0, 0], // room for half a label of time
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false }, sync: { key: "time" }, points: { size: 7 } },
      scales: { x: { range: () => this.#range() }, y: { range: (_, low, high) => [0, Math.max(this.least, (high ?? 0) * 1.15)] } },
      axes: [
        { ...axis, size: 28, gap: 8, space: 80, values: (_, ticks) => ticks.map(format.time) },
        { ...axis, size: 58, gap: 6, space: 30, values: (_, ticks) => ticks.map(this.ticks) },
      ],
      series: [{}, { stroke, fill, width: 1.75, points: { show: false } }],
      hooks: { setCursor: [(plot) => this.#hover(plot)] },
    };
  }

  #hover(plot) {
    this.hovered = plot.cursor.idx == null ? null : this.data[1][plot.cursor.idx];
    this.card.querySelector(".headline").textContent = this.format(this.hovered ?? this.data[1].at(-1));
  }

  // All there is, up to some minutes: a plot that has just begun is no narrow strip at the edge.
  #range() {
    const [times] = this.data;
    const last = times.at(-1) ?? Date.now() / 1000;
    return [Math.max(last - SHOWN, Math.min(times[0] ?? last, last - 30)), last];
  }

  #size() {
    return { width: this.plot.clientWidth || 300, height: this.plot.clientHeight || 130 };
  }
}
