// Taking the last change back.
import { ask, touch } from '../lib/api.js';
import { happened } from '../lib/words.js';
import { tell } from './trouble.js';

export const undoCall = (reason = '', number = undefined) => ({
  title: 'Take the last change back',
  method: 'POST',
  path: '/undo',
  body: { ...(number ? { version: number } : {}), ...(reason.trim() ? { reason: reason.trim() } : {}) },
});

/** What a message offers after a change: to take back that very one, and no other that somebody has made since. */
export const undoing = (version) => ({ label: 'Undo', act: () => undo(version?.number) });

async function undo(number) {
  try {
    const { version } = await ask(undoCall('', number));
    tell(`${happened(version)}.`);
    touch();
  } catch (error) {
    // What somebody has changed since does not go away by trying again.
    tell(error.message, error.status === 409 ? undefined : { label: 'Try again', act: () => undo(number) });
  }
}
