// worker.js: one EventSource for all tabs. The browser starts it with the first tab
// and ends it with the last.
const tabs = new BroadcastChannel("events");
let last = null;

new EventSource("/events").onmessage = (event) => {
  last = { id: event.lastEventId, data: event.data };
  tabs.postMessage(last);
};

// A new tab gets the last event at once.
onconnect = ({ ports: [tab] }) => {
  if (last) tab.postMessage(last);
};
