// Events of a POST, in a browser or in Node: docs/post.md shows this file and explains it.
//
//     npm install eventsource-parser

import { EventSourceParserStream } from "eventsource-parser/stream";

/** Post JSON, and iterate over the events of the answer. Aborting `signal` closes the stream. */
export async function* post(url, body, { signal, headers } = {}) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "text/event-stream", ...headers },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  const events = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  const reader = events.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel(); // leaving a `for await` early closes the connection
  }
}
