// The event stream, and what can be told about it.
//
// Rule 1: the browser reconnects, by itself and with its Last-Event-ID. This file only watches it.
// Rule 2: a stream that the server ended for good (204, an error status) stays ended until the visitor connects
//         again. Then the id goes into the query: a script can't set the header.
//
// Rule 3: over HTTP/1.1 a browser opens six connections to a server, for all tabs together. A tab that would take the
//         last one waits, and says so; or the next tab would not even load.
//
// States: waiting, connecting, live, reconnecting, disconnected (by the visitor), ended (by the server).

import { takeSlot } from "./slots.js";

const RATE_WINDOW = 5000; // ms over which events/s are averaged
const REPLAY = 1000; // ms after opening in which history comes, which is no rate of anything

export class Connection {
  constructor(url, names, { onEvent, onState }) {
    Object.assign(this, { url, names, onEvent, onState });
    this.lastEventId = "";
    this.received = 0;
    this.reconnects = 0;
    this.retry = 3000; // ms; until the server has said its own
    this.retryAt = 0;
    this.arrivals = [];
    this.state = "connecting";
  }

  open() {
    this.slot = takeSlot(() => this.#become("waiting"));
    this.slot.taken.then(() => this.#connect());
  }

  #connect() {
    const query = this.lastEventId ? `?last_event_id=${encodeURIComponent(this.lastEventId)}` : "";
    this.source = new EventSource(this.url + query);
    this.source.addEventListener("open", () => this.#opened());
    this.source.addEventListener("error", () => this.#failed());
    for (const name of this.names) this.source.addEventListener(name, (event) => this.#arrived(event));
    this.#become("connecting");
  }

  close() {
    this.source?.close();
    this.slot.release();
    this.#become("disconnected");
  }

  get isWanted() {
    return !["disconnected", "ended"].includes(this.state);
  }

  get secondsToRetry() {
    return Math.max(0, Math.ceil((this.retryAt - performance.now()) / 1000));
  }

  get eventsPerSecond() {
    const now = performance.now();
    this.arrivals = this.arrivals.filter((arrival) => now - arrival < RATE_WINDOW);
    const known = now - this.openedAt > REPLAY + RATE_WINDOW;
    return known ? (this.arrivals.length * 1000) / RATE_WINDOW : null;
  }

  #opened() {
    if (this.openedAt) this.reconnects += 1;
    this.openedAt = performance.now();
    this.arrivals = [];
    this.#become("live");
  }

  #failed() {
    this.retryAt = performance.now() + this.retry;
    const isEnded = this.source.readyState === EventSource.CLOSED;
    if (isEnded) this.slot.release();
    this.#become(isEnded ? "ended" : "reconnecting");
  }

  #arrived(event) {
    this.received += 1;
    if (performance.now() - this.openedAt > REPLAY) this.arrivals.push(performance.now());
    if (event.lastEventId) this.lastEventId = event.lastEventId;
    this.onEvent(event.type, event.data, event.lastEventId);
  }

  #become(state) {
    this.state = state;
    this.onState(state);
  }
}
