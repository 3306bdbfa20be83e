// Names of things, numbers and times, in words for people.

/** The name of a fact. */
export const fact = (id) => `Fact ${id}`;

export const OPERATIONS = {
  publish: 'Published',
  edit: 'Published',
  supersede: 'Replaced',
  remove: 'Removed',
  undo: 'Undone',
  rollback: 'Rolled back',
  switch: 'Set switched',
  describe: 'Described',
  import: 'Taken in',
  merge: 'Sets merged',
  compact: 'Tidied up',
};

export const DRAFTS = {
  waiting: 'Waiting for training',
  training: 'In training',
  ready: 'Ready to publish',
  failed: 'Failed',
  published: 'Published',
  rejected: 'Rejected',
};

export const SCOPES = {
  ask: 'Ask the model',
  read: 'See facts, drafts and history',
  edit: 'Propose facts',
  publish: 'Publish, remove and roll back',
  admin: 'Everything, and keys',
};

export const ASKS = {
  own: 'asks exactly this',
  about: 'asks something else about it',
  other: 'asks something else',
};

/** A number of things. */
export const many = (count, one, more = `${one}s`) => `${count} ${count === 1 ? one : more}`;

/** Numbers of facts as a list in words, a long one cut. */
export function facts(ids) {
  const shown = ids.slice(0, 5).join(', ');
  const name = ids.length === 1 ? 'fact' : 'facts';
  return ids.length > 5 ? `${name} ${shown} and ${ids.length - 5} more` : `${name} ${shown}`;
}

/** What a version came to by, in a sentence. */
export function happened(version) {
  const { operation, added, removed, restored } = version;
  if (operation === 'undo') return `Took version ${version.undoes} back`;
  if (operation === 'rollback') return `Went back to version ${version.target}`;
  if (operation === 'switch') return switched(version);
  if (operation === 'merge') return `Merged sets${counts(version)}`;
  if (operation === 'describe') return `Changed what is noted of ${described(version)}`;
  if (operation === 'supersede' && added.length && removed.length) {
    return `${upper(facts(added))} took the place of ${facts(removed)}`;
  }
  if (operation === 'remove') return `Removed ${facts(removed)}`;
  if (['publish', 'edit', 'import'].includes(operation) && added.length) {
    const instead = removed.length ? `, in place of ${facts(removed)}` : '';
    return `${operation === 'import' ? 'Took in' : 'Published'} ${facts(added)}${instead}`;
  }
  return `${OPERATIONS[operation] ?? operation}${restored.length ? ` ${facts(restored)}` : ''}`;
}

const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function counts({ removed, restored }) {
  const parts = [];
  if (removed.length) parts.push(`${facts(removed)} went to sleep`);
  if (restored.length) parts.push(`${facts(restored)} woke`);
  return parts.length ? `: ${parts.join(', ')}` : '';
}

function switched({ described: told, removed, restored }) {
  const name = Object.keys(told?.sets ?? {})[0];
  const set = name ? `the set “${name}”` : 'a set';
  if (restored.length) return `Switched ${set} on: ${facts(restored)} can answer again`;
  return removed.length ? `Switched ${set} off: ${facts(removed)} cannot answer` : `Switched ${set}`;
}

function described({ described: told }) {
  const ids = Object.keys(told?.edits ?? told ?? {}).filter((name) => /^\d+$/.test(name));
  return ids.length ? facts(ids) : 'facts';
}

const DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });

export const when = (text) => DAY.format(new Date(text));
export const exactly = (text) => FULL.format(new Date(text));

/** A score as people read it. */
export const score = (value) => (value === null || value === undefined ? '–' : value.toFixed(2));

/** A text cut to a length, for names of things. */
export const short = (text, most = 60) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** Lines of a text that say something. */
export const lines = (text) => text.split('\n').map((line) => line.trim()).filter(Boolean);

/** Words between commas, each once. */
export const words = (text) => [...new Set(text.split(',').map((word) => word.trim()).filter(Boolean))];
