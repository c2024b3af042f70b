// Which tabs may have a stream open: at most five of this server's pages, so that one connection is left for files.
//
// Rule: a slot is a lock that the browser holds for a tab. It is free again when the tab is closed, however that happens.

const SLOTS = Array.from({ length: 5 }, (_, i) => `sse-slot-${i}`);

// Return { taken, release }: a promise for a slot, and a function that gives it back. `onWait` is called if none is free.
export function takeSlot(onWait) {
  const over = new AbortController();
  if (!navigator.locks) return { taken: Promise.resolve(), release() {} }; // not https:// and not localhost
  return { taken: take(over.signal, onWait), release: () => over.abort() };
}

async function take(over, onWait) {
  for (const name of SLOTS) if (await hold(name, over, { ifAvailable: true })) return;
  onWait();
  await holdAny(over);
}

function holdAny(over) {
  return new Promise((resolve) => {
    const found = new AbortController(); // by the first that is free: the others are asked for no longer
    for (const name of SLOTS) {
      const signal = AbortSignal.any([over, found.signal]);
      hold(name, over, { signal }, () => !found.signal.aborted).then((held) => {
        if (!held) return;
        found.abort();
        resolve();
      });
    }
  });
}

// Hold a lock until `over`; resolve to whether it was got.
function hold(name, over, options, isWanted = () => true) {
  return new Promise((resolve) => {
    const request = navigator.locks.request(name, options, (lock) => {
      const held = Boolean(lock) && isWanted() && !over.aborted;
      resolve(held);
      return held && new Promise((release) => over.addEventListener("abort", release));
    });
    request.catch(() => resolve(false)); // asked for no longer
  });
}
