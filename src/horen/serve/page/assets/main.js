// The page's beginning: who uses it is found out, then the view is shown that its address names.
import { html, render, useEffect, useLayoutEffect, useRef, useState } from './lib/kit.js';
import { place } from './lib/places.js';
import { away, locked } from './lib/api.js';
import { look, may, watch, you } from './lib/session.js';
import { PLACES, Shell } from './parts/shell.js';
import { Trouble, Waiting } from './parts/trouble.js';
import { Add } from './views/add.js';
import { Ask } from './views/ask.js';
import { Audit } from './views/audit.js';
import { Draft } from './views/draft.js';
import { Drafts } from './views/drafts.js';
import { Fact } from './views/fact.js';
import { Facts } from './views/facts.js';
import { Difference, History } from './views/history.js';
import { Keys } from './views/keys.js';
import { Sets } from './views/sets.js';

/** The view that a place names: its title, the scope that it needs, and what it shows. */
function chosen({ view, rest, query }) {
  const [first] = rest;
  const number = /^\d+$/.test(first ?? '') ? Number(first) : null;
  if (view === 'ask') return ['Ask', 'ask', html`<${Ask} query=${query} />`];
  if (view === 'add') return ['Add a fact', 'edit', html`<${Add} query=${query} />`];
  if (view === 'facts' && number) return [`Fact ${number}`, 'read', html`<${Fact} key=${number} id=${number} />`];
  if (view === 'facts') return ['Facts', 'read', html`<${Facts} query=${query} />`];
  if (view === 'sets') return ['Sets', 'read', html`<${Sets} />`];
  if (view === 'drafts' && number) return [`Draft ${number}`, 'read', html`<${Draft} key=${number} id=${number} />`];
  if (view === 'drafts') return ['Drafts', 'read', html`<${Drafts} query=${query} />`];
  if (view === 'history' && rest[1] === 'diff') {
    return [`Version ${rest[0]} and version ${rest[2]}`, 'read', html`<${Difference} before=${rest[0]} after=${rest[2]} />`];
  }
  if (view === 'history') return ['History', 'read', html`<${History} query=${query} />`];
  if (view === 'keys') return ['Keys', 'admin', html`<${Keys} />`];
  if (view === 'audit') return ['Audit', 'admin', html`<${Audit} query=${query} />`];
  return null;
}

/** The first place that one may go to. */
function start() {
  return PLACES.find(([, , scope]) => may(scope))?.[0];
}

function Page() {
  const [trouble, setTrouble] = useState(null);
  const heading = useRef(null);
  const first = useRef(true);
  const here = place.value;
  const view = here.view || (you.value ? start() : '');
  const [title, scope, shown] = chosen({ ...here, view }) ?? ['Not found', null, null];
  const begin = async () => setTrouble(await look());
  useEffect(() => {
    begin().then(watch);
  }, []);
  const where = [view, ...here.rest].join('/');
  useLayoutEffect(() => {
    document.title = `${title} · HoReN`;
    if (!first.current) heading.current?.focus();
    if (view) first.current = false;
  }, [where]);
  return html`<${Shell} here=${view === 'sets' ? 'facts' : view}>
    <h1 ref=${heading} tabindex="-1">${you.value ? title : 'HoReN'}</h1>
    ${body({ trouble, begin, scope, shown, title })}
  <//>`;
}

function body({ trouble, begin, scope, shown, title }) {
  if (!you.value) {
    if (locked.value) return html`<p>Enter your key to go on.</p>`;
    if (trouble && !away.value) return html`<${Trouble} error=${trouble} again=${begin} />`;
    return html`<${Waiting} rows=${6} what="Looking for the service…" />`;
  }
  if (!shown) return html`<p>There is nothing at this address. <a href="#/ask">Go to the beginning</a>.</p>`;
  if (!may(scope)) {
    return html`<p>
      ${title} needs the right “${scope}”, and your key (${you.value.actor}) does not have it. Whoever runs this service can
      give you one that has.
    </p>`;
  }
  return shown;
}

render(html`<${Page} />`, document.getElementById('page'));
