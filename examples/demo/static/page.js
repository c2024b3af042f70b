// The page: what each event of the stream means for it.

import { Chart, KEEP } from "./chart.js";
import { Connection } from "./connection.js";
import * as format from "./format.js";
import { showReport } from "./panel.js";

const EVENTS = ["hello", "gap", "cpu", "memory", "network", "load", "report", "farewell"];
const STATES = {
  connecting: "Connecting",
  waiting: "Six connections are open: close a tab",
  live: "Live",
  reconnecting: "Connection lost, reconnecting",
  disconnected: "Disconnected",
  ended: "Ended by the server",
};
const LINES = 16; // events kept for "the stream as it arrives"
const SHORTEST = 10; // seconds that the plots show at least
const $ = (id) => document.getElementById(id);

const machine = { cores: 1, memory: 0, interval: 1 };
const newest = { seconds: 0, at: 0 }; // time of the newest sample, by the server's clock and by ours
let first = Infinity; // time of the first sample that the page got
const gaps = []; // [from, to] in seconds
const lines = [];
let shown = 60; // seconds that the plots show at most
let scheduled = false;

// --- time -----------------------------------------------------------------------------------------------------------

// How long the newest sample has been overdue, in seconds. Nothing is known of that time: the plots say so.
function overdue() {
  const age = (performance.now() - newest.at) / 1000;
  return newest.seconds && age > 2.5 * machine.interval ? age : 0;
}

const view = {
  // All there is, up to the time chosen: a plot that has just begun is no narrow strip at the edge.
  range() {
    const now = newest.seconds ? newest.seconds + overdue() : Date.now() / 1000;
    return [Math.max(now - shown, Math.min(first, now - SHORTEST)), now];
  },
  gaps() {
    const late = overdue();
    return late ? [...gaps, [newest.seconds, newest.seconds + late]] : gaps;
  },
  format: (seconds) => (shown > 300 || seconds % 60 === 0 ? format.minutes(seconds) : format.time(seconds)),
};

// --- plots ----------------------------------------------------------------------------------------------------------

const charts = {
  cpu: new Chart("cpu", view, {
    series: coreSeries(1),
    range: () => [0, 100],
    format: format.percent,
    headline: ([average]) => format.percent(average),
  }),
  memory: new Chart("memory", view, {
    series: [
      { name: "Used", colour: 1, area: true },
      { name: "Cache", colour: 2 },
      { name: "Swap", colour: 3 },
    ],
    range: () => [0, machine.memory / format.GIB || 1],
    format: format.gib,
    ticks: (value) => `${value} GiB`,
    headline: ([used]) => format.gib(used),
  }),
  network: new Chart("network", view, {
    series: [
      { name: "Received", colour: 1, area: true },
      { name: "Sent", colour: 2 },
      { name: "Loopback", colour: 3, thin: true },
    ],
    range: (high) => [0, Math.max(1000, high * 1.15)],
    format: format.rate,
    headline: ([received, sent]) => format.rate(received + sent),
  }),
  load: new Chart("load", view, {
    series: [
      { name: "1 min", colour: 1, area: true },
      { name: "5 min", colour: 2 },
      { name: "15 min", colour: 3 },
    ],
    range: (high) => [0, Math.max(1, high * 1.2)],
    format: format.load,
    ticks: (value) => String(+value.toFixed(2)),
    headline: ([one]) => format.load(one),
    marks: () => [{ value: machine.cores, text: machine.cores === 1 ? "1 core" : `${machine.cores} cores` }],
  }),
};

function coreSeries(cores) {
  const each = Array.from({ length: cores }, (_, i) => ({ name: `Core ${i}`, colour: 2 + (i % 7), thin: true, faint: cores > 8 }));
  return [{ name: "Average", colour: 1, area: true }, ...each];
}

function draw() {
  scheduled = false;
  for (const chart of Object.values(charts)) chart.draw();
  showFigures();
}

// At most once a frame, however many events arrive: a quarter of an hour comes at once when the page opens.
function schedule() {
  if (!scheduled) requestAnimationFrame(draw);
  scheduled = true;
}

// --- events ---------------------------------------------------------------------------------------------------------

const handlers = {
  hello(hello) {
    Object.assign(machine, { cores: hello.cores, memory: hello.memory, interval: hello.interval / 1000 });
    connection.retry = hello.retry;
    charts.cpu.setSeries(coreSeries(hello.cores));
    $("host").textContent = hello.host;
    const cores = hello.cores === 1 ? "1 core" : `${hello.cores} cores`;
    $("system").textContent = `${hello.system}, ${cores}, ${format.gib(hello.memory / format.GIB)}. Served by Python ${hello.python} on ${hello.loop}.`;
  },
  gap() {
    if (!newest.seconds) return;
    gaps.push([newest.seconds, Infinity]); // until the next sample
    for (const chart of Object.values(charts)) chart.record.addGap();
  },
  cpu(sample) {
    const cores = sample.cores.length === 1 ? "1 core" : `average of ${sample.cores.length} cores`;
    charts.cpu.add(sample.time / 1000, [sample.average, ...sample.cores], cores);
  },
  memory({ time, used, cache, swap }) {
    const values = [used, cache, swap].map((bytes) => bytes / format.GIB);
    charts.memory.add(time / 1000, values, `of ${format.gib(machine.memory / format.GIB)}`);
  },
  network({ time, received, sent, loopback }) {
    charts.network.add(time / 1000, [received, sent, loopback], "received and sent");
  },
  load({ time, one, five, fifteen }) {
    charts.load.add(time / 1000, [one, five, fifteen], "average of 1 minute");
    complete(time / 1000);
  },
  report: showReport,
};

// The last event of a sample has come, and with it the id that says we have all of it.
function complete(seconds) {
  const open = gaps.at(-1);
  if (open && open[1] === Infinity) open[1] = seconds;
  if (gaps.length && gaps[0][1] < seconds - KEEP) gaps.shift();
  first = Math.min(first, seconds);
  newest.seconds = Math.max(seconds, newest.seconds);
  newest.at = performance.now();
}

// --- connection -----------------------------------------------------------------------------------------------------

const connection = new Connection("events", EVENTS, {
  onEvent(name, data, id) {
    lines.unshift(`event: ${name}\n${name === "load" ? `id: ${id}\n` : ""}data: ${data}\n`);
    lines.length = Math.min(lines.length, LINES);
    if (name in handlers) handlers[name](JSON.parse(data));
    schedule();
  },
  onState(state) {
    document.body.dataset.state = state;
    $("announcement").textContent = STATES[state];
    $("toggle").textContent = connection.isWanted ? "Disconnect" : "Connect";
    showFigures();
  },
});

function stateText() {
  const silent = (performance.now() - Math.max(newest.at, connection.openedAt)) / 1000;
  if (connection.state === "live" && silent > 2.5 * machine.interval) return `Live, but silent for ${format.duration(silent)}`;
  if (connection.state !== "reconnecting") return STATES[connection.state];
  return connection.secondsToRetry ? `Reconnecting in ${connection.secondsToRetry} s` : "Reconnecting now";
}

function showFigures() {
  $("state").textContent = stateText();
  $("rate").textContent = format.perSecond(connection.state === "live" ? connection.eventsPerSecond : 0);
  $("received").textContent = format.count(connection.received);
  $("reconnects").textContent = format.count(connection.reconnects);
  $("last-event-id").textContent = connection.lastEventId || "none";
  if ($("wire").open) $("lines").textContent = lines.join("\n");
}

// Time goes on without events too: the countdown, and the plots of a stream that is late.
function tick() {
  showFigures();
  if (overdue()) schedule();
}

$("toggle").addEventListener("click", () => (connection.isWanted ? connection.close() : connection.open()));
$("wire").addEventListener("toggle", showFigures);
$("span").addEventListener("change", (event) => {
  shown = Number(event.target.value);
  draw();
});
addEventListener("themechange", () => Object.values(charts).forEach((chart) => chart.restyle()));
setInterval(tick, 500);
connection.open();
