// The page: what each event of the stream means for it.
//
// Rule 1: the server chooses, orders and bounds the rows. Another choice is another stream.
// Rule 2: a stream begins with everything, so a page that was cut off forgets what it had. Only the rows of the same
//         server stay until its first order comes: a button that is pressed while a filter takes effect is pressed.

import * as format from "./format.js";
import { Plot } from "./plot.js";
import { makeButton, post } from "./press.js";
import { Table, makeCells, setText } from "./table.js";

const STATES = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", ended: "Refused by the server" };
const ENDED_ROWS = 20;
const TYPING = 250; // ms without a key before the filter is used
const $ = (id) => document.getElementById(id);

const clock = { now: 0, at: 0 }; // the server's loop clock, and ours when it was that
let source;
let token = "";
let totals;
let matching = 0;
let ended = [];

// --- streams --------------------------------------------------------------------------------------------------------

const STREAM_COLUMNS = [
  ["No.", "number key"], ["Path", "path"], ["Labels and topics", "tags"], ["Age", "number"], ["Events", "number"], ["Bytes", "number"],
  ["Buffered", "number"], ["Lag", "number"], ["Dropped", "number"], ["State", "condition"], ["", "action"],
];

function makeStreamRow(number) {
  const element = makeCells(STREAM_COLUMNS);
  const kick = () => post(`kick/${number}`, token, `Stream ${number}`, "kicked");
  element.lastElementChild.append(makeButton("Kick", `Kick stream ${number}`, kick));
  element.firstElementChild.textContent = number;
  element.dataset.number = number;
  return element;
}

function fillStreamRow(element, row) {
  const [, path, tags, age, events, bytes, buffered, lag, dropped, condition] = element.children;
  setText(path, row.path);
  path.title = row.path;
  fillTags(tags, row);
  setText(age, format.duration(clock.now + (performance.now() - clock.at) / 1000 - row.opened));
  setText(events, format.count(row.events));
  setText(bytes, format.bytes(row.bytes));
  setText(buffered, row.bufferedEvents ? `${format.bytes(row.bufferedBytes)} (${format.count(row.bufferedEvents)})` : "0");
  setText(lag, format.count(row.lag));
  setText(dropped, format.count(row.dropped));
  const state = row.reason ? "ending" : row.stalled ? "stalled" : "open";
  setText(condition, row.reason ? `ending: ${words(row.reason)}` : row.stalled ? `stalled ${format.duration(row.stalled)}` : "open");
  element.dataset.state = state;
}

function fillTags(cell, { labels, topics }) {
  const texts = [...Object.entries(labels).map(([name, value]) => `${name}=${value}`), ...topics];
  if (cell.dataset.texts === JSON.stringify(texts)) return;
  cell.dataset.texts = JSON.stringify(texts);
  cell.replaceChildren(...texts.map((text, i) => tag(text, i < texts.length - topics.length ? "label" : "topic")));
}

function tag(text, kind) {
  const element = document.createElement("span");
  Object.assign(element, { className: `tag ${kind}`, textContent: text, title: text });
  return element;
}

const streams = new Table("streams", makeStreamRow, fillStreamRow);

// --- topics ---------------------------------------------------------------------------------------------------------

const FEED_COLUMNS = [["Topics", "tags key"], ["Subscribers", "number"], ["Events", "number"], ["In the ring", "number"], ["Lag", "number"]];
const feeds = new Table("feeds", () => makeCells(FEED_COLUMNS), (element, row) => {
  const [topics, subscribers, events, ring, lag] = element.children;
  fillTags(topics, { labels: {}, topics: row.topics });
  setText(subscribers, format.count(row.subscribers));
  setText(events, format.count(row.events));
  setText(ring, `${format.count(row.ringEvents)} (${format.bytes(row.ringBytes)})`);
  setText(lag, format.count(row.lag));
});

// --- runs -----------------------------------------------------------------------------------------------------------

const RUN_COLUMNS = [["Key", "path key"], ["Labels", "tags"], ["Age", "number"], ["Events", "number"], ["Watchers", "number"], ["", "action"]];

function makeRunRow(key) {
  const element = makeCells(RUN_COLUMNS);
  const stop = () => post(`stop?${new URLSearchParams({ key })}`, token, `Run ${key}`, "stopped");
  element.lastElementChild.append(makeButton("Stop", `Stop run ${key}`, stop));
  return element;
}

const runs = new Table("runs", makeRunRow, (element, row) => {
  const [key, tags, age, events, watchers] = element.children;
  setText(key, row.key);
  key.title = row.key;
  fillTags(tags, { labels: row.labels, topics: [] });
  setText(age, format.duration(totals.figures[0] + (performance.now() - clock.at) / 1000 - row.started));
  setText(events, format.count(row.events));
  setText(watchers, format.count(row.watchers));
});

// --- endings --------------------------------------------------------------------------------------------------------

const CLOSED_COLUMNS = [["At", "key"], ["No.", "number"], ["Path", "path"], ["Why", "why"], ["Age", "number"], ["Events", "number"]];

function endedRow(row) {
  const element = makeCells(CLOSED_COLUMNS);
  const [at, number, path, why, age, events] = element.children;
  at.textContent = format.time(row.at);
  number.textContent = row.number;
  path.textContent = path.title = row.path;
  why.append(reasonTag(row.reason));
  age.textContent = format.duration(row.age);
  events.textContent = format.count(row.events);
  return element;
}

const words = (reason) => reason.replaceAll("_", " ");

function reasonTag(reason, text = words(reason)) {
  const element = tag(text, "reason");
  element.dataset.reason = reason;
  return element;
}

function fillReasons(list, counted, text = words) {
  const counts = Object.entries(counted).sort(([, a], [, b]) => b - a);
  if (!counts.length) return;
  const items = counts.map(([reason, n]) => {
    const item = document.createElement("li");
    const number = document.createElement("strong");
    number.textContent = format.count(n);
    item.append(reasonTag(reason, text(reason)), number);
    return item;
  });
  list.replaceChildren(...items);
}

// --- figures --------------------------------------------------------------------------------------------------------

const plots = [
  new Plot("plot-open", { colour: "series-1", format: format.count, least: 5 }),
  new Plot("plot-events", { colour: "series-2", format: format.rate, ticks: (value) => format.count(value), least: 5 }),
  new Plot("plot-bytes", { colour: "series-3", format: format.byteRate, ticks: format.bytes, least: 1000 }),
];

function draw() {
  for (const plot of plots) plot.draw();
  streams.fill();
  feeds.fill();
  if (!totals) return;
  for (const name of ["opened", "events", "stalled", "stalls", "dropped"]) setText($(name), format.count(totals[name]));
  setText($("bytes"), format.bytes(totals.bytes));
  $("stalled").dataset.bad = String(totals.stalled > 0);
  fillReasons($("reasons"), totals.closed);
  fillReasons($("limits"), totals.refused, String); // the options' names
  $("refusals").hidden = !Object.keys(totals.refused).length;
  const open = totals.figures[1];
  const chosen = matching === open ? format.count(open) : `${format.count(matching)} that match`;
  setText($("of"), streams.size < matching ? `the first ${format.count(streams.size)} of ${chosen}` : chosen);
  $("no-streams").hidden = streams.size > 0;
  $("runs-card").hidden = totals.runs == null;
  if (totals.runs != null) {
    runs.fill();
    setText($("runs-of"), runs.size < totals.runs ? `the first ${format.count(runs.size)} of ${format.count(totals.runs)}` : format.count(totals.runs));
    $("no-runs").hidden = runs.size > 0;
  }
  $("hub").hidden = !totals.hub;
  $("pair").classList.toggle("single", !totals.hub);
  if (!totals.hub) return;
  for (const [name, value] of Object.entries(totals.hub)) if (name !== "feeds") setText($(`hub-${name}`), format.count(value));
  const of = totals.hub.feeds;
  setText($("feeds-of"), feeds.size < of ? `the first ${format.count(feeds.size)} of ${format.count(of)} choices` : "");
}

// --- events ---------------------------------------------------------------------------------------------------------

const handlers = {
  hello({ group, hub, host, python, token: secret }) {
    if (token !== secret) streams.clear(); // of another process, whose numbers mean other streams
    token = secret;
    ended = [];
    feeds.clear();
    runs.clear();
    $("group").textContent = group;
    $("server").textContent = `${host}, Python ${python}`;
    $("hub-title").textContent = hub ? `Topics of ${hub}` : "Topics";
    document.title = `Streams of ${group}`;
  },
  history([times, ...columns]) {
    columns.forEach((values, i) => plots[i].fill(times, values));
  },
  totals(news) {
    totals = news;
    Object.assign(clock, { now: news.now, at: performance.now() });
    const [at, ...values] = news.figures;
    values.forEach((value, i) => plots[i].add(at, value));
    showState();
    draw();
  },
  streams(changes) {
    matching = changes.matching ?? matching;
    streams.change(changes);
    draw();
  },
  feeds(changes) {
    feeds.change(changes);
    draw();
  },
  runs(changes) {
    runs.change(changes);
    draw();
  },
  closed(rows) {
    ended = [...rows.reverse(), ...ended].slice(0, ENDED_ROWS);
    document.querySelector("#closed tbody").replaceChildren(...ended.map(endedRow));
    $("no-closed").hidden = true;
  },
};

// --- connection -----------------------------------------------------------------------------------------------------

function open() {
  source?.close();
  const chosen = { sort: $("sort").value, order: $("order").ariaPressed === "true" ? "ascending" : "descending" };
  source = new EventSource(`stream?${new URLSearchParams({ ...chosen, rows: $("rows").value, text: $("text").value })}`);
  source.addEventListener("open", showState);
  source.addEventListener("error", showState);
  for (const [name, handle] of Object.entries(handlers)) source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  showState();
}

function showState() {
  const state = source.readyState === EventSource.OPEN ? "live" : source.readyState === EventSource.CLOSED ? "ended" : totals ? "reconnecting" : "connecting";
  document.body.dataset.state = state;
  setText($("state"), state === "live" && totals?.shutdown ? "Shutting down" : STATES[state]);
}

let typing;
$("text").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(open, TYPING);
});
for (const id of ["sort", "rows"]) $(id).addEventListener("change", open);
$("order").addEventListener("click", () => {
  $("order").ariaPressed = String($("order").ariaPressed !== "true");
  open();
});
addEventListener("themechange", () => plots.forEach((plot) => plot.restyle()));
setInterval(() => streams.fill(), 1000); // ages run on when nothing comes
open();
