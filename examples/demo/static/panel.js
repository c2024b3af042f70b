// The panel "Try to lose an event": its buttons, and what the clients report.

import * as format from "./format.js";

const ROWS = {
  Clients: ({ clients, stalled }) => `${format.count(clients)}${stalled ? `, ${stalled} stalled` : ""}`,
  Events: ({ events }) => format.count(events),
  Lost: ({ lost }) => format.count(lost),
  Twice: ({ twice }) => format.count(twice),
  "Producers started": ({ started }) => format.count(started),
  "Cleaned up": ({ cleaned_up }) => format.count(cleaned_up),
  "Never cleaned up": ({ left_behind }) => format.count(left_behind),
  "Stopped in": ({ stopped_in }) => (stopped_in === null ? format.missing : `${stopped_in.toFixed(1)} s`),
};
const $ = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("[data-order]")];

async function give(order) {
  // The header says that this page sends it, and not another site: see panel.py.
  await fetch(`orders/${order}`, { method: "POST", headers: { "x-demo": "1" } }).catch(() => {}); // restarting
}

export function showReport(report) {
  const { events, clients, lost, twice } = report.sse_trio;
  $("verdict").textContent = `${format.count(events)} events to ${format.count(clients)} clients: ${lost} lost, ${twice} twice.`;
  $("verdict").dataset.lost = String(lost + twice > 0);
  for (const button of buttons) button.disabled = false;
  showFigures(report);
}

function showFigures(report) {
  $("figures").replaceChildren(...Object.entries(report).flatMap(([name, side]) => [element("h3", name), list(side)]));
  $("figures").hidden = false;
}

function list(side) {
  const pairs = Object.entries(ROWS).map(([name, show]) => element("div", element("dt", name), element("dd", show(side))));
  return element("dl", ...pairs);
}

function element(kind, ...content) {
  const made = document.createElement(kind);
  made.append(...content);
  return made;
}

for (const button of buttons) button.addEventListener("click", () => give(button.dataset.order));
