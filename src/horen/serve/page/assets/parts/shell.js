// What stands around every view: name, places to go, who uses it, and whether the service is there.
import { away, key, locked } from '../lib/api.js';
import { html, useEffect, useRef, useState } from '../lib/kit.js';
import { place } from '../lib/places.js';
import { about, enter, look, may, model, waiting, you } from '../lib/session.js';
import { Dialog } from './dialog.js';
import { Line } from './fields.js';
import { Trouble, Told } from './trouble.js';
import { useSend } from '../lib/loading.js';

/** Every view that has a place of its own: name, title, and the scope that it needs. */
export const PLACES = [
  ['ask', 'Ask', 'ask'],
  ['add', 'Add a fact', 'edit'],
  ['facts', 'Facts', 'read'],
  ['drafts', 'Drafts', 'read'],
  ['history', 'History', 'read'],
  ['keys', 'Keys', 'admin'],
  ['audit', 'Audit', 'admin'],
];

function Places({ here, close }) {
  return html`<ul>
    ${PLACES.filter(([, , scope]) => may(scope)).map(
      ([name, title]) =>
        html`<li key=${name}>
          <a href="#/${name}" aria-current=${here === name ? 'page' : undefined} onClick=${close}>
            ${title}
            ${name === 'drafts' &&
            waiting.value > 0 &&
            html`<span class="count"><span class="aside">, </span>${waiting.value}<span class="aside"> ready</span></span>`}
          </a>
        </li>`,
    )}
  </ul>`;
}

function Who({ open }) {
  const found = you.value;
  return html`<div class="who">
    ${model.value || about.value
      ? html`<p><span class="label">Model</span> <span class="said">${model.value || about.value.engine.model}</span></p>`
      : null}
    ${about.value && html`<p><span class="label">Version</span> ${about.value.store.version}</p>`}
    ${found && html`<p><span class="label">You are</span> <span class="said">${found.actor}</span></p>`}
    ${(key.value || locked.value) &&
    html`<button type="button" class="quiet" onClick=${open}>${key.value ? 'Change key' : 'Enter a key'}</button>`}
  </div>`;
}

/** The whole page. */
export function Shell({ here, children }) {
  const [menu, setMenu] = useState(false);
  const [asking, setAsking] = useState(false);
  const main = useRef(null);
  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  useEffect(() => setMenu(false), [place.value]);
  useEffect(() => {
    if (locked.value) setAsking(true);
  }, [locked.value]);
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to content</a>
    <header class="top ${menu ? 'open' : ''}">
      <a class="brand" href="#/ask"><span class="mark" aria-hidden="true"></span>HoReN</a>
      <button
        type="button"
        class="menu"
        aria-expanded=${menu ? 'true' : 'false'}
        aria-controls="places"
        onClick=${() => setMenu(!menu)}
      >
        Menu
      </button>
      <div id="places" class="places">
        <nav aria-label="Main"><${Places} here=${here} close=${() => setMenu(false)} /></nav>
        <${Who} open=${() => setAsking(true)} />
      </div>
    </header>
    <main ref=${main} id="main" tabindex="-1"><${Away} />${children}</main>
    <${Told} />
    ${asking && html`<${KeyDialog} close=${() => setAsking(false)} />`}`;
}

/** That the service cannot be reached. */
function Away() {
  const { busy, send } = useSend();
  return html`<div role="alert">
    ${away.value &&
    html`<div class="note warn">
      <p><strong>The service cannot be reached.</strong> What you have written is kept. It is tried again and again.</p>
      <button type="button" disabled=${busy} onClick=${() => send(look)}>Try now</button>
    </div>`}
  </div>`;
}

function KeyDialog({ close }) {
  const [secret, set] = useState('');
  const { busy, error, send } = useSend();
  const told = key.value ? '' : locked.value;
  const submit = async (event) => {
    event.preventDefault();
    const done = await send(async () => {
      const trouble = await enter(secret.trim());
      if (trouble) throw trouble;
      return true;
    });
    if (done) close();
  };
  const forget = async () => {
    await enter('');
    if (!locked.value) close();
  };
  return html`<${Dialog} title=${key.value ? 'Change key' : 'Enter your key'} close=${close}>
    <form onSubmit=${submit}>
      <p>Your key says who you are and what you may do. It begins with “hk_”. Whoever runs this service gives you one.</p>
      <${Line}
        label="Key"
        type="password"
        required
        max=${256}
        value=${secret}
        set=${set}
        hint="Kept in this tab until you close it, and sent to this service alone."
      />
      ${told && !error && !told.startsWith('This needs') && html`<p class="fault">${told}</p>`}
      <${Trouble} error=${error} />
      <div class="actions">
        <button type="submit" class="primary" disabled=${busy || !secret.trim()}>${busy ? 'Looking…' : 'Use this key'}</button>
        ${key.value && html`<button type="button" onClick=${forget}>Forget the key</button>`}
        <button type="button" onClick=${close}>Cancel</button>
      </div>
    </form>
  <//>`;
}
