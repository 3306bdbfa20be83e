// A draft as it is now, followed while it waits and while it is trained.
import { ask, changed, events, touch } from './api.js';
import { useEffect, useState } from './kit.js';

const MOVING = new Set(['waiting', 'training']);
const AGAIN = 1_500;

export const newsCall = (id) => ({ title: 'News of the draft', method: 'GET', path: `/drafts/${id}/events`, stream: true });

/** A draft that is looked at anew whenever it may have changed: {draft, error, again}. */
export function useDraft(id) {
  const [state, set] = useState({ draft: null, error: null });
  const [turn, again] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    follow(id, stop.signal, set);
    return () => stop.abort();
  }, [id, turn, changed.value]);
  return { ...state, again: () => again((now) => now + 1) };
}

async function follow(id, stop, set) {
  let moving = true;
  try {
    const { draft } = await ask({ method: 'GET', path: `/drafts/${id}` }, { stop });
    set({ draft, error: null });
    moving = MOVING.has(draft.state);
  } catch (error) {
    if (!stop.aborted) set((now) => ({ ...now, error }));
    return;
  }
  while (moving && !stop.aborted) {
    try {
      for await (const event of events(newsCall(id), { stop, quiet: 600_000 })) {
        const { draft } = JSON.parse(event.data);
        set({ draft, error: null });
        moving = MOVING.has(draft.state);
        if (!moving) break;
      }
      if (!moving) touch();
    } catch (error) {
      if (stop.aborted) return;
      // What is known stays; the service says by itself when it is there again.
      if (error.status === 404) return;
    }
    if (moving) await new Promise((done) => setTimeout(done, AGAIN));
  }
}
