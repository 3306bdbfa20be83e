// Taking the last change back.
import { ask, touch } from '../lib/api.js';
import { happened } from '../lib/words.js';
import { tell } from './trouble.js';

export const undoCall = (reason = '') => ({
  title: 'Take the last change back',
  method: 'POST',
  path: '/undo',
  body: reason.trim() ? { reason: reason.trim() } : {},
});

/** Takes the last change back, and says how that went. */
export async function undo() {
  try {
    const { version } = await ask(undoCall());
    tell(`${happened(version)}.`);
    touch();
  } catch (error) {
    tell(error.message, { label: 'Try again', act: undo });
  }
}
