// A server that is not ours: better-sse. Each connection gets five numbers, those after its Last-Event-ID, and is cut;
// after the hundredth, 204. Prints its port.
import { createServer } from "node:http"
import { createSession } from "better-sse"

const server = createServer(async (request, response) => {
  const after = Number(request.headers["last-event-id"] ?? 0)
  if (after >= 100) {
    response.writeHead(204).end()
    return
  }
  const session = await createSession(request, response, { retry: 10 })
  for (let n = after + 1; n <= after + 5; n++) session.push({ n, text: "\u2026\n\r\n" }, n % 2 ? "odd" : "message", String(n))
  setTimeout(() => (after % 2 ? response.end() : request.socket.resetAndDestroy()), 20)
})
server.listen(0, "127.0.0.1", () => console.log(server.address().port))
