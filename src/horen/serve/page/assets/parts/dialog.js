// Dialogs: the browser's own, which keep the focus inside and close with Escape.
import { useSend } from '../lib/loading.js';
import { html, useId, useLayoutEffect, useRef, useState } from '../lib/kit.js';
import { Area } from './fields.js';
import { Trouble } from './trouble.js';

/** A dialog, open for as long as it is there; the focus goes back to where it was. */
export function Dialog({ title, close, children }) {
  const box = useRef(null);
  const there = useRef(true);
  const name = useId();
  useLayoutEffect(() => {
    const before = document.activeElement;
    const own = box.current;
    own.showModal();
    there.current = true;
    return () => {
      there.current = false; // a dialog that is gone closes no other
      own.close(); // else all that is outside could not have the focus yet
      if (before?.isConnected) before.focus();
    };
  }, []);
  const closed = () => there.current && close();
  return html`<dialog ref=${box} aria-labelledby=${name} onClose=${closed}>
    <header>
      <h2 id=${name}>${title}</h2>
      <button type="button" class="quiet" aria-label="Close" onClick=${close}>✕</button>
    </header>
    ${children}
  </dialog>`;
}

/**
 * Asks whether something shall be done, and why.
 * @param {{title: string, label: string, danger?: boolean, reasoned?: boolean, doing: (reason: string) => Promise,
 *   close: () => void, children?: any}} given
 */
export function Confirm({ title, label, danger = false, reasoned = true, doing, close, children }) {
  const [reason, set] = useState('');
  const { busy, error, send } = useSend();
  const submit = async (event) => {
    event.preventDefault();
    const done = await send(async () => {
      await doing(reason);
      return true;
    });
    if (done) close();
  };
  return html`<${Dialog} title=${title} close=${close}>
    <form onSubmit=${submit}>
      ${children}
      ${reasoned &&
      html`<${Area} label="Why" optional rows=${2} value=${reason} set=${set} hint="Kept in the history." />`}
      <${Trouble} error=${error} />
      <div class="actions">
        <button type="submit" class=${danger ? 'danger' : 'primary'} disabled=${busy}>${busy ? 'Working…' : label}</button>
        <button type="button" onClick=${close}>Cancel</button>
      </div>
    </form>
  <//>`;
}
