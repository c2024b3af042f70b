// One plot in its card: uPlot for the drawing; the key and the headline as text that everybody can read.
//
// Rule 1: the stylesheet owns the colours. A series is drawn in the colour of its entry in the key.
// Rule 2: the first series lies on top, so uPlot gets them in reverse; `#place(i)` is where.
// Rule 3: time without data is drawn as such: hatched, and named with its length.

import * as format from "./format.js";
import { Record } from "./record.js";

const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif";
export const KEEP = 15 * 60; // seconds

export class Chart {
  constructor(id, view, { series, range, format, ticks = format, incrs, headline, marks = () => [] }) {
    Object.assign(this, { view, range, format, ticks, incrs, headline, marks });
    this.card = document.getElementById(id);
    this.plot = this.card.querySelector(".plot");
    this.plot.role = "img";
    this.plot.ariaLabel = `${this.card.querySelector("h2").textContent}, plotted over time; the values follow in the key`;
    this.record = new Record(KEEP);
    this.hovered = null;
    this.setSeries(series);
    new ResizeObserver(() => this.#resize()).observe(this.plot);
  }

  // What is drawn: [{name, colour, area, thin, faint}]. Making the plot anew is cheap and rare.
  setSeries(series) {
    if (this.names === JSON.stringify(series)) return;
    this.names = JSON.stringify(series);
    this.series = series;
    this.#makeKey();
    this.restyle();
  }

  add(seconds, values, detail = "") {
    this.record.add(seconds, values);
    Object.assign(this, { latest: values, detail });
  }

  // Colours are read when uPlot is made; another theme is another plot with the same data.
  restyle() {
    const hidden = this.uplot?.series.map((line) => line.show === false) ?? [];
    this.uplot?.destroy();
    this.uplot = new uPlot(this.#options(hidden), this.#data(), this.plot);
    this.draw();
  }

  draw() {
    this.uplot.setData(this.#data());
    this.#fillKey();
    if (!this.latest) return;
    this.card.querySelector(".headline").textContent = this.headline(this.latest);
    this.card.querySelector(".detail").textContent = this.detail;
  }

  #data() {
    const columns = this.record.columns;
    const lines = this.series.map((_, i) => columns[i + 1] ?? columns[0].map(() => null));
    return [columns[0], ...lines.reverse()];
  }

  #place(i) {
    return this.series.length - i;
  }

  #options(hidden) {
    const axis = { stroke: this.#colour("--muted"), font: FONT, ticks: { show: false }, grid: { stroke: this.#colour("--line"), width: 1 } };
    return {
      ...this.#size(),
      padding: [8, 22, 0, 0], // room for half a label of time
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false }, sync: { key: "time" }, points: { size: 7 } },
      scales: { x: { range: () => this.view.range() }, y: { range: (_, low, high) => this.range(high ?? 0) } },
      axes: [
        { ...axis, size: 30, gap: 9, space: 70, values: (_, ticks) => ticks.map(this.view.format) },
        { ...axis, size: 62, gap: 8, space: 32, incrs: this.incrs, values: (_, ticks) => ticks.map(this.ticks) },
      ],
      series: [{}, ...this.series.map((line, i) => this.#line(line, i, hidden[this.#place(i)])).reverse()],
      hooks: { drawAxes: [(plot) => this.#drawGaps(plot)], draw: [(plot) => this.#drawMarks(plot)], setCursor: [(plot) => this.#hover(plot)] },
    };
  }

  #line({ area, thin, faint }, i, hidden = false) {
    const colour = this.#keyColour(i);
    const mixed = (share) => this.#resolve(`color-mix(in srgb, ${colour} ${share}%, transparent)`);
    const look = { stroke: faint ? mixed(40) : colour, fill: area ? mixed(14) : undefined, width: thin ? 1.25 : 1.75 };
    return { show: !hidden, ...look, points: { show: false } };
  }

  #makeKey() {
    const key = this.card.querySelector(".key");
    key.replaceChildren(...this.series.map((line, i) => this.#keyEntry(line, i)));
  }

  #keyEntry({ name, colour }, i) {
    const button = document.createElement("button");
    const [swatch, label, value] = ["swatch", "name", "value"].map((part) => {
      const span = document.createElement("span");
      span.className = part;
      return span;
    });
    Object.assign(button, { type: "button", ariaPressed: "true", title: `Show or hide ${name}` });
    swatch.dataset.colour = colour;
    label.textContent = name;
    button.append(swatch, label, value);
    button.addEventListener("click", () => this.#toggle(button, i));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }

  #toggle(button, i) {
    const show = button.ariaPressed !== "true";
    button.ariaPressed = String(show);
    this.uplot.setSeries(this.#place(i), { show });
  }

  #fillKey() {
    const columns = this.#data();
    const row = this.hovered ?? columns[0].length - 1;
    const values = this.card.querySelectorAll(".key .value");
    values.forEach((value, i) => (value.textContent = this.format(columns[this.#place(i)][row])));
  }

  #hover(plot) {
    this.hovered = plot.cursor.idx ?? null;
    const seconds = this.hovered === null ? null : plot.data[0][this.hovered];
    this.card.querySelector(".at").textContent = seconds == null ? "" : format.time(seconds);
    this.#fillKey();
  }

  #drawGaps(plot) {
    for (const [from, to] of this.view.gaps()) {
      const { left: edge, width, top, height } = plot.bbox;
      const left = Math.max(edge, plot.valToPos(from, "x", true));
      const right = Math.min(edge + width, plot.valToPos(to, "x", true));
      if (right - left >= 2) this.#drawGap(plot.ctx, left, top, right - left, height, `no data, ${format.duration(to - from)}`);
    }
  }

  #drawGap(context, left, top, width, height, text) {
    context.save();
    context.fillStyle = this.#hatching(context);
    context.fillRect(left, top, width, height);
    context.font = FONT.replace("12px", `${12 * devicePixelRatio}px`);
    context.fillStyle = this.#colour("--muted");
    context.textAlign = "center";
    const wide = context.measureText(text).width + 12 * devicePixelRatio < width;
    if (wide) context.fillText(text, left + width / 2, top + 18 * devicePixelRatio);
    context.restore();
  }

  #hatching(context) {
    const size = 8 * devicePixelRatio;
    const tile = new OffscreenCanvas(size, size);
    const pen = tile.getContext("2d");
    pen.strokeStyle = this.#colour("--hatching");
    pen.lineWidth = devicePixelRatio;
    for (const shift of [-size, 0, size]) {
      pen.moveTo(shift, size);
      pen.lineTo(shift + size, 0);
    }
    pen.stroke();
    return context.createPattern(tile, "repeat");
  }

  // Horizontal marks such as "as many as there are cores", where they are in sight.
  #drawMarks(plot) {
    for (const { value, text } of this.marks()) {
      if (value > plot.scales.y.max) continue;
      this.#drawMark(plot.ctx, plot.bbox, plot.valToPos(value, "y", true), text);
    }
  }

  #drawMark(context, { left, width }, y, text) {
    context.save();
    context.strokeStyle = context.fillStyle = this.#colour("--muted");
    context.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
    context.beginPath();
    context.moveTo(left, y);
    context.lineTo(left + width, y);
    context.stroke();
    context.font = FONT.replace("12px", `${12 * devicePixelRatio}px`);
    context.textAlign = "left";
    context.fillText(text, left + 6 * devicePixelRatio, y - 5 * devicePixelRatio);
    context.restore();
  }

  #size() {
    return { width: Math.max(this.plot.clientWidth, 120), height: Math.max(this.plot.clientHeight, 120) };
  }

  #resize() {
    this.uplot.setSize(this.#size());
  }

  #keyColour(i) {
    return getComputedStyle(this.card.querySelectorAll(".key .swatch")[i]).backgroundColor;
  }

  #colour(variable) {
    return this.#resolve(`var(${variable})`);
  }

  // A canvas knows neither variables nor light-dark(): let an element work the colour out.
  #resolve(colour) {
    this.card.style.outlineColor = colour;
    return getComputedStyle(this.card).outlineColor;
  }
}
