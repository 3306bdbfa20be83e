// What views do with the service: read something and read it again, send something, keep what is being written.
import { ask, changed } from './api.js';
import { useEffect, useRef, useState } from './kit.js';

/**
 * Reads something, and again whenever it may have changed. What was read stays while it is read anew.
 * @param {import('./calls.js').Call | null} call
 */
export function useRead(call) {
  const [state, set] = useState({ data: null, error: null, busy: Boolean(call), of: '' });
  const [turn, again] = useState(0);
  const what = call ? JSON.stringify(call) : '';
  useEffect(() => {
    if (!what) return undefined;
    const stop = new AbortController();
    set((now) => ({ ...now, busy: true }));
    ask(JSON.parse(what), { stop: stop.signal }).then(
      (data) => stop.signal.aborted || set({ data, error: null, busy: false, of: what }),
      (error) => stop.signal.aborted || set((now) => ({ ...now, error, busy: false })),
    );
    return () => stop.abort();
  }, [what, turn, changed.value]);
  return { ...state, again: () => again((now) => now + 1) };
}

/** Sends something, once at a time: {busy, error, send(doing), clear}. */
export function useSend() {
  const [state, set] = useState({ busy: false, error: null });
  const running = useRef(false);
  const there = useRef(true);
  useEffect(() => {
    there.current = true;
    return () => {
      there.current = false;
    };
  }, []);
  const send = async (doing) => {
    if (running.current) return undefined;
    running.current = true;
    set({ busy: true, error: null });
    try {
      const found = await doing();
      if (there.current) set({ busy: false, error: null });
      return found;
    } catch (error) {
      if (there.current) set({ busy: false, error });
      return undefined;
    } finally {
      running.current = false;
    }
  };
  return { ...state, send, clear: () => set({ busy: false, error: null }) };
}

/** Keeps what is being written for as long as the tab is open: [value, set, forget]. */
export function useKept(name, initial) {
  const place = `horen.kept.${name}`;
  const [value, set] = useState(() => {
    try {
      return { ...initial, ...JSON.parse(sessionStorage.getItem(place) ?? '{}') };
    } catch {
      return initial;
    }
  });
  const change = (part) => set((now) => kept(place, { ...now, ...part }));
  const forget = () => {
    sessionStorage.removeItem(place);
    set(initial);
  };
  return [value, change, forget];
}

function kept(place, value) {
  try {
    sessionStorage.setItem(place, JSON.stringify(value));
  } catch {
    // A full storage keeps nothing more; what is on the screen stays.
  }
  return value;
}

/** A value once it has not changed for a while. */
export function useSettled(value, pause = 350) {
  const [settled, set] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => set(value), pause);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}
