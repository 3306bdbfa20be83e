// Who uses the page, what the service is, and whether it is there.
import { ask, away, changed, key, locked, remember, touch } from './api.js';
import { computed, effect, signal } from './kit.js';

/** Who asks, and what they may: {actor, scopes}; null as long as that is not known. */
export const you = signal(null);
/** What the service is; null where that is not known, or may not be. */
export const about = signal(null);
/** Name of the model that is asked. */
export const model = signal('');
/** How many tokens a question and its answer have together at most. */
export const room = signal(0);
/** Drafts that somebody has to decide. */
export const waiting = computed(() => about.value?.store.drafts.ready ?? 0);

const EVERY = 8_000;
const AGAIN = 2_000;

/** Whether who uses the page may do a thing. @param {'ask'|'read'|'edit'|'publish'|'admin'} scope */
export function may(scope) {
  const scopes = you.value?.scopes ?? [];
  return scopes.includes(scope) || scopes.includes('admin');
}

/** Finds out who uses the page. Resolves when that is known, or a key is needed, or the service is away. */
export async function look() {
  const own = key.value;
  try {
    const found = await ask({ method: 'GET', path: '/you' });
    if (own !== key.value) return null; // said of a key that is not used any more
    locked.value = '';
    you.value = found;
    await Promise.all([readAbout(), knowModel()]);
  } catch (error) {
    if (own !== key.value) return null;
    if (error.status === 401) you.value = about.value = null;
    return error;
  }
  return null;
}

async function readAbout() {
  if (!may('read')) return;
  const found = await ask({ method: 'GET', path: '/about' });
  const before = about.value?.store;
  about.value = found;
  const counts = JSON.stringify(found.store.drafts);
  if (before && (before.version !== found.store.version || JSON.stringify(before.drafts) !== counts)) touch();
}

/** Finds out which model is asked, where that is not known yet. */
export async function knowModel() {
  if (!may('ask') || model.value) return;
  const found = await ask({ method: 'GET', path: '/v1/models' });
  model.value = found.data[0]?.id ?? '';
  room.value = found.data[0]?.max_model_len ?? 0;
}

/** Uses another key from now on; an empty one for none. Resolves to what is wrong with it, or to null. */
export async function enter(secret) {
  const before = key.value;
  remember(secret);
  const trouble = await look();
  // What else goes wrong says nothing of the key: it may be lost on the way.
  if (trouble?.status === 401 && secret) remember(before);
  else touch();
  return trouble;
}

let timer;
/** Looks again and again whether the service is there and what has changed in it. */
export function watch() {
  clearTimeout(timer);
  timer = setTimeout(async () => {
    if (!document.hidden && !locked.value) {
      const gone = away.value;
      await look();
      if (gone && !away.value) touch();
    }
    watch();
  }, away.value ? AGAIN : EVERY);
}

effect(() => {
  if (away.value) watch(); // sooner than otherwise
});
document.addEventListener('visibilitychange', () => document.hidden || look());

export { away, changed, locked };
