// Reads a stream with one of npm's clients, prints each message as JSON, and ends when the server says that there is no
// more. Each is used as its README shows, with `JSON.parse(message.data)` in the handler.
import { createParser } from "eventsource-parser"
import { EventSource } from "eventsource"
import { fetchEventSource } from "@microsoft/fetch-event-source"

const [kind, url] = process.argv.slice(2)
const print = (event, data, id) => console.log(JSON.stringify({ event: event || "message", data: JSON.parse(data), id }))

const clients = {
  eventsource() {
    const source = new EventSource(url)
    for (const name of ["message", "named"]) {
      source.addEventListener(name, (event) => print(event.type, event.data, event.lastEventId))
    }
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) process.exit(0)
    })
  },

  async "fetch-event-source"() {
    // It is made for browsers; this is what it uses of them.
    globalThis.window = globalThis
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} }
    class NoContent extends Error {}
    await fetchEventSource(url, {
      method: "POST",
      openWhenHidden: true,
      async onopen(response) {
        if (response.status === 204) throw new NoContent()
      },
      onmessage: (message) => print(message.event, message.data, message.id),
      onclose() {
        throw new Error("the stream ended: connect again")
      },
      onerror(error) {
        if (error instanceof NoContent) throw error
        if (error instanceof SyntaxError) console.log(JSON.stringify({ mistaken: error.message }))
      },
    }).catch((error) => {
      if (!(error instanceof NoContent)) throw error
    })
  },

  async "eventsource-parser"() {
    const headers = {}
    const parser = createParser({
      onEvent(event) {
        if (event.id) headers["last-event-id"] = event.id
        print(event.event, event.data, event.id)
      },
    })
    for (;;) {
      const response = await fetch(url, { headers })
      if (response.status === 204) return
      const decoder = new TextDecoder()
      for await (const chunk of response.body) parser.feed(decoder.decode(chunk, { stream: true }))
      parser.reset()
    }
  },
}

await clients[kind]()
