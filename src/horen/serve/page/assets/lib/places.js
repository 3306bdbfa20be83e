// Where in the page one is: everything behind the # of its address, as "#/facts/3" or "#/facts?tag=boats".
import { signal } from './kit.js';

function read() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter(Boolean).map(plain);
  return { view: parts[0] ?? '', rest: parts.slice(1), query: Object.fromEntries(new URLSearchParams(query)) };
}

function plain(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const place = signal(read());
addEventListener('hashchange', () => {
  place.value = read();
});

/** The address of a place. @param {...(string|number|object)} parts of its path, and last what its query is, if any */
export function to(...parts) {
  const query = typeof parts.at(-1) === 'object' ? parts.pop() : {};
  const given = Object.entries(query).filter(([, value]) => value);
  const path = parts.map((part) => encodeURIComponent(part)).join('/');
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ''}`;
}

export function go(...parts) {
  location.hash = to(...parts);
}

/** Changes the address without a new step in the browser's history. */
export function become(...parts) {
  history.replaceState(null, '', to(...parts));
  place.value = read();
}
