// Asking the service: with the key, within a time, and with what goes wrong told in words.
import { queried, root } from './calls.js';
import { signal } from './kit.js';

const KEPT = 'horen.key';
const PATIENCE = 20_000;
/** An answer of a model may be long in coming: others may be asking too. */
const QUIET = 120_000;

/** The key of this tab; empty where none was entered. */
export const key = signal(sessionStorage.getItem(KEPT) ?? '');
/** Whether the service cannot be reached. */
export const away = signal(false);
/** Why a key is asked for; empty where none is. */
export const locked = signal('');
/** Counts what may have changed what is shown; whoever shows something looks again when it does. */
export const changed = signal(0);

export function remember(secret) {
  if (secret) sessionStorage.setItem(KEPT, secret);
  else sessionStorage.removeItem(KEPT);
  key.value = secret;
}

/** What went wrong, in words for people. */
export class Trouble extends Error {
  /**
   * @param {string} message in words for people
   * @param {{status?: number, code?: string, clashes?: object[], param?: string}} [told]
   */
  constructor(message, { status = 0, code = '', clashes = [], param = '' } = {}) {
    super(message);
    Object.assign(this, { status, code, clashes, param });
  }
}

const GONE = 'The service cannot be reached. What you have written here is kept.';

/** Returns what the service answers. @param {import('./calls.js').Call} call */
export async function ask(call, { stop, patience = PATIENCE } = {}) {
  const clock = timed(stop, patience);
  try {
    const answer = await sent(call, clock);
    return await answer.json();
  } catch (error) {
    throw told(error, clock, stop);
  } finally {
    clock.end();
  }
}

/** Yields the events that the service sends, each as {name, data}. @param {import('./calls.js').Call} call */
export async function* events(call, { stop, quiet = QUIET } = {}) {
  const clock = timed(stop, quiet);
  try {
    const answer = await sent(call, clock);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let held = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clock.again();
      held += value.replaceAll('\r\n', '\n');
      const parts = held.split('\n\n');
      held = parts.pop();
      for (const part of parts) {
        const event = parsed(part);
        if (event.data) yield event;
      }
    }
  } catch (error) {
    throw told(error, clock, stop);
  } finally {
    clock.end();
  }
}

function parsed(part) {
  const event = { name: 'message', data: '' };
  for (const line of part.split('\n')) {
    if (line.startsWith('event:')) event.name = line.slice(6).trim();
    if (line.startsWith('data:')) event.data += line.slice(5).trimStart();
  }
  return event;
}

/** A signal that ends a request after a time, or when somebody says so. */
function timed(stop, patience) {
  const control = new AbortController();
  const end = () => control.abort();
  let timer = setTimeout(late, patience);
  const clock = { signal: control.signal, late: false, again, end: over };
  stop?.addEventListener('abort', end);
  if (stop?.aborted) end();
  function late() {
    clock.late = true;
    control.abort();
  }
  function again() {
    clearTimeout(timer);
    timer = setTimeout(late, patience);
  }
  function over() {
    clearTimeout(timer);
    stop?.removeEventListener('abort', end);
    control.abort();
  }
  return clock;
}

async function sent(call, clock) {
  const headers = {};
  if (key.value) headers.authorization = `Bearer ${key.value}`;
  if (call.body) headers['content-type'] = 'application/json';
  const answer = await fetch(root + call.path + queried(call.query), {
    method: call.method,
    headers,
    body: call.body ? JSON.stringify(call.body) : undefined,
    signal: clock.signal,
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
  });
  away.value = false;
  if (!answer.ok) throw await refused(answer);
  return answer;
}

async function refused(answer) {
  const body = await answer.json().catch(() => ({}));
  const { message, code, param } = body.error ?? {};
  if (answer.status === 401) locked.value = message ?? 'A key is needed.';
  const words = message ?? `The service answered with status ${answer.status}, and does not say why. Try again.`;
  return new Trouble(words, { status: answer.status, code: code ?? '', clashes: body.clashes ?? [], param: param ?? '' });
}

function told(error, clock, stop) {
  if (error instanceof Trouble) return error;
  if (stop?.aborted) return new Trouble('Stopped.', { code: 'stopped' });
  if (clock.late) return new Trouble('The service has not answered in time. Try again.', { code: 'late' });
  away.value = true;
  return new Trouble(GONE, { code: 'away' });
}

/** Says that what is shown may have changed. */
export function touch() {
  changed.value += 1;
}
