// A stream in a React component: docs/react.md shows this file and explains it.
//
//     const { data, status } = useEventSource(`/jobs/${id}`);

import { useEffect, useRef, useState } from "react";

/**
 * Follow a stream of JSON. `status` is "connecting", "open", "ended" or "failed"; `data` is the latest message.
 * `onMessage(data, id)` is called for each message: React may skip values of `data` that arrive together.
 */
export function useEventSource(url, { onMessage } = {}) {
  const [state, setState] = useState({ data: null, status: "connecting" });
  const listener = useRef(onMessage);
  useEffect(() => {
    listener.current = onMessage;
  });

  useEffect(() => {
    setState({ data: null, status: "connecting" });
    const source = new EventSource(url);

    source.onopen = () => setState((old) => ({ ...old, status: "open" }));

    source.onmessage = (event) => {
      const data = JSON.parse(event.data);
      setState((old) => ({ ...old, data }));
      listener.current?.(data, event.lastEventId);
    };

    source.addEventListener("end", () => {
      source.close(); // without this, the browser connects again
      setState((old) => ({ ...old, status: "ended" }));
    });

    source.onerror = () => {
      const failed = source.readyState === EventSource.CLOSED; // otherwise it reconnects
      setState((old) => ({ ...old, status: failed ? "failed" : "connecting" }));
    };

    return () => source.close();
  }, [url]);

  return state;
}
