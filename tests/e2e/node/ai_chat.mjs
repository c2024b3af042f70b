// The Vercel AI SDK's chat, with its default transport, against examples/chat_runs. Prints what each of these came to:
// a tab that stops reading, one that resumes, one that comes when the answer is over, an error, a stop by the user.
import { AbstractChat, DefaultChatTransport } from "ai"

const api = `${process.argv[2]}api/chat`
const results = { protocols: [] }
const transport = new DefaultChatTransport({
  api,
  async fetch(...args) {
    const response = await fetch(...args)
    if (response.status === 200) results.protocols.push(response.headers.get("x-vercel-ai-ui-message-stream"))
    return response
  },
})

// What `useChat` has of React, in an object.
class State {
  status = "ready"
  error = undefined
  messages = []
  pushMessage = (message) => (this.messages = [...this.messages, message])
  popMessage = () => (this.messages = this.messages.slice(0, -1))
  replaceMessage = (index, message) => (this.messages = this.messages.with(index, message))
  snapshot = (value) => structuredClone(value)
}

class Chat extends AbstractChat {
  constructor(id) {
    super({ id, transport, state: new State() })
  }

  // The text of the answer, as the page would show it.
  get text() {
    const answers = this.messages.filter((message) => message.role === "assistant")
    return answers.map((answer) => answer.parts.map((part) => part.text).join("")).join("\n")
  }

  async hasText(text) {
    while (!this.text.includes(text)) await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

const first = new Chat("one")
const asking = first.sendMessage({ text: "why" })
await first.hasText("You asked: why")
await first.stop() // the tab is closed: the request is aborted
await asking
results.left = first.text
const second = new Chat("one")
await second.resumeStream()
results.resumed = second.text
results.messages = second.messages.length
results.over = await transport.reconnectToStream({ chatId: "one" })
results.unknown = await transport.reconnectToStream({ chatId: "nobody/asked?" })

// The next question to the same chat, and a button that stops the answer.
const waiting = second.sendMessage({ text: "again" })
await second.hasText("You asked: again")
await fetch(`${api}/one/stream`, { method: "DELETE" })
await waiting
results.stopped = [second.status, second.messages.at(-1).parts.map((part) => part.text).join("")]

// An answer that fails in the middle.
const failing = new Chat("two")
await failing.sendMessage({ text: "error" })
results.error = [failing.status, failing.error.message, failing.text]

console.log(JSON.stringify(results))
