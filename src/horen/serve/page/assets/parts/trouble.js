// What went wrong, what has been done, and that something is awaited.
import { html, signal, useEffect } from '../lib/kit.js';

/** What went wrong, with a way to try again. */
export function Trouble({ error, again }) {
  if (!error || error.code === 'stopped') return null;
  return html`<div class="note bad" role="alert">
    <p>${error.message}</p>
    ${again && html`<button type="button" onClick=${again}>Try again</button>`}
  </div>`;
}

/** Room for what is still being read: as high as what will be there, so that nothing jumps. */
export function Waiting({ rows = 4, what = 'Reading…' }) {
  return html`<div class="waiting" role="status">
    <span class="aside">${what}</span>
    ${Array.from({ length: rows }, (_, number) => html`<span class="bone" key=${number} aria-hidden="true"></span>`)}
  </div>`;
}

const said = signal(null);
const TOLD_FOR = 20_000;

/** Tells what has been done. @param {string} words @param {{label: string, act: () => void}} [more] what may follow */
export function tell(words, more) {
  said.value = { words, more, at: performance.now() };
}

/** Where that is told. */
export function Told() {
  const now = said.value;
  useEffect(() => {
    if (!now) return undefined;
    const timer = setTimeout(() => {
      if (said.value === now) said.value = null;
    }, TOLD_FOR);
    return () => clearTimeout(timer);
  }, [now]);
  return html`<div class="told" role="status">
    ${now &&
    html`<div class="told-box">
      <span>${now.words}</span>
      ${now.more &&
      html`<button
        type="button"
        onClick=${() => {
          said.value = null;
          now.more.act();
        }}
      >
        ${now.more.label}
      </button>`}
      <button type="button" class="quiet" aria-label="Close this message" onClick=${() => (said.value = null)}>✕</button>
    </div>`}
  </div>`;
}
