// Events of any request, of a POST for example, in a browser or in Node: docs/post.md shows this file and explains it.
//
//     npm install eventsource-parser

import { EventSourceParserStream } from "eventsource-parser/stream";

/** Iterate over the events of an answer. The options are those of `fetch`. Aborting `signal` closes the stream. */
export async function* events(url, options = {}) {
  const response = await fetch(url, { ...options, headers: { accept: "text/event-stream", ...options.headers } });
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  const decoded = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  const reader = decoded.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel(); // leaving a `for await` early closes the connection
  }
}

/** Post JSON, and iterate over the events of the answer. */
export function post(url, body, { headers, ...options } = {}) {
  const json = { "content-type": "application/json", ...headers };
  return events(url, { ...options, method: "POST", headers: json, body: JSON.stringify(body) });
}
