// Reads a stream with npm's eventsource and prints each event as JSON; ends when the server says that there is no more.
import { EventSource } from "eventsource"

const source = new EventSource(process.argv[2])
const print = (event) => console.log(JSON.stringify({ event: event.type, data: event.data, id: event.lastEventId }))
source.addEventListener("message", print)
source.addEventListener("named", print)
source.addEventListener("error", () => {
  if (source.readyState === EventSource.CLOSED) process.exit(0)
})
