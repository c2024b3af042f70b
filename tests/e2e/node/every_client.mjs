// Reads a stream with one of npm's clients, prints each message as JSON, and ends when the server says that there is no
// more. Each is used as its README shows, with `JSON.parse(message.data)` in the handler.
import { readFileSync } from "node:fs"
import { createParser } from "eventsource-parser"
import { EventSource } from "eventsource"
import { fetchEventSource } from "@microsoft/fetch-event-source"

const [kind, url] = process.argv.slice(2)
const PAGE = readFileSync(new URL("../../../docs/clients.md", import.meta.url), "utf8")
const BLOCKS = [...PAGE.matchAll(/```javascript\n([^`]*?await fetchEventSource[^]*?)```/g)].map((match) => match[1])
const AsyncFunction = (async () => {}).constructor
const program = (number) => new AsyncFunction("fetchEventSource", "show", "token", "question", BLOCKS[number])
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
    // The first program of docs/clients.md, which shows the events without a name; we also see the others.
    const follow = (_, options) => fetchEventSource(url, {
      ...options,
      openWhenHidden: true,
      onmessage(message) {
        options.onmessage(message)
        print(message.event, message.data, message.id)
      },
      onerror(error) {
        if (error instanceof SyntaxError) console.log(JSON.stringify({ mistaken: error.message }))
        return options.onerror(error)
      },
    })
    await program(0)(follow, () => {}, "token", "?").catch((error) => {
      if (error.message !== "204") throw error
    })
  },

  // How often each program of docs/clients.md asks that is answered with this status and one event (0: not answered),
  // and how it ends. It is cut off here when it asks for the third time.
  async "fetch-event-source-asks"() {
    globalThis.window = { setTimeout: (again) => setTimeout(again), clearTimeout } // it never waits
    globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} }
    const asks = [0, 0], ends = []
    for (const number of [0, 1]) {
      ends[number] = await new Promise((resolve) => {
        const fetch = async () => {
          if (++asks[number] === 3) resolve("asks again")
          if (url === "0") throw new TypeError("no connection")
          return new Response(url === "204" ? null : "data: 1\n\n", { status: Number(url) })
        }
        const run = (_, options) => fetchEventSource("http://server/", { ...options, openWhenHidden: true, fetch })
        program(number)(run, () => {}, "token", "?").then(() => resolve("done"), (error) => resolve(error.message))
      })
    }
    console.log(JSON.stringify({ event: "asks", data: [asks, ends], id: "" }))
    process.exit(0)
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
