// The parts of a long list, one after the other.
import { useRef } from './kit.js';

/**
 * Ways to the parts before and behind the one that is shown; null where there is none.
 * @param {string|undefined} before what this part was asked for with
 * @param {number|null|undefined} next what asks for the part behind it
 * @param {(before: string) => void} change shows another part; an empty text asks for the first
 */
export function usePages(before, next, change) {
  const seen = useRef([]);
  const older = () => {
    seen.current.push(before ?? '');
    change(String(next));
  };
  const newer = () => change(seen.current.pop() ?? '');
  const first = () => {
    seen.current = [];
  };
  return { older: next ? older : null, newer: before ? newer : null, first };
}
