// History: every change of the store, what makes one version another, and the way back.
import { ask, touch } from '../lib/api.js';
import { html, useState } from '../lib/kit.js';
import { useRead, useSend } from '../lib/loading.js';
import { usePages } from '../lib/pages.js';
import { become, go, to } from '../lib/places.js';
import { about, may } from '../lib/session.js';
import { happened, many } from '../lib/words.js';
import { Calls } from '../parts/calls.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { Line } from '../parts/fields.js';
import { FactLink, Nothing, Paging } from '../parts/small.js';
import { tell, Trouble, Waiting } from '../parts/trouble.js';
import { undoCall } from '../parts/undo.js';
import { Versions } from '../parts/versions.js';

const LIMIT = 25;

export function History({ query }) {
  const { before } = query;
  const [doing, set] = useState(null);
  const [chosen, choose] = useState([]);
  const call = { title: 'The history', method: 'GET', path: '/versions', query: { before, limit: LIMIT } };
  const { data, error, busy, again } = useRead(call);
  const close = () => set(null);
  const pick = (number) =>
    choose(chosen.includes(number) ? chosen.filter((each) => each !== number) : [...chosen, number].slice(-2));
  const pages = usePages(before, data?.next, (next) => become('history', { before: next }));
  const last = about.value?.store.version ?? data?.versions[0]?.number;
  const pair = [...chosen].sort((one, two) => one - two);
  return html`<div class="bar panel">
      <span class="grow hint" role="status">${told(pair)}</span>
      <button type="button" disabled=${pair.length !== 2} onClick=${() => go('history', pair[0], 'diff', pair[1])}>Compare</button>
      ${may('publish') &&
      html`<button type="button" disabled=${!data?.versions.length} onClick=${() => set({ undo: data.versions[0] })}>
        Take the last change back…
      </button>`}
    </div>
    <${Trouble} error=${error} again=${again} />
    ${!data && busy && html`<${Waiting} rows=${8} />`}
    ${data && !data.versions.length && html`<${Nothing}><p>Nothing has happened yet.</p><//>`}
    ${data &&
    html`<${Versions}
      versions=${data.versions}
      lead=${({ number }) =>
        html`<input
          type="checkbox"
          aria-label="Choose version ${number} to compare"
          checked=${chosen.includes(number)}
          onChange=${() => pick(number)}
        />`}
      actions=${(version) => html`<${Actions} version=${version} last=${last} set=${set} />`}
    />`}
    <${Paging} newer=${pages.newer} older=${pages.older} />
    <${Calls} calls=${calls(call, data?.versions[0]?.number ?? 1)} />
    ${doing?.undo && html`<${Undo} close=${close} />`}
    ${doing?.tag && html`<${Name} version=${doing.tag} close=${close} />`}
    ${doing?.back && html`<${Back} version=${doing.back} last=${last} close=${close} />`}`;
}

function told(pair) {
  if (pair.length === 2) return `Versions ${pair[0]} and ${pair[1]} are chosen.`;
  return pair.length ? `Version ${pair[0]} is chosen: choose another to compare it with.` : 'Choose two versions to compare them.';
}

function Actions({ version, last, set }) {
  const { number } = version;
  return html`<a class="button quiet" href=${to('history', number - 1, 'diff', number)}>What it changed<span class="aside"> in version ${number}</span></a>
    ${may('publish') &&
    html`<button type="button" class="quiet" onClick=${() => set({ tag: version })}>Name…<span class="aside"> version ${number}</span></button>
      ${number !== last &&
      html`<button type="button" class="quiet" onClick=${() => set({ back: version })}>Roll back…<span class="aside"> to version ${number}</span></button>`}`}`;
}

function calls(call, number) {
  const list = [call, { title: 'What a version changed', method: 'GET', path: `/versions/${number - 1}/diff/${number}` }];
  if (!may('publish')) return list;
  return [
    ...list,
    { title: 'Name a version', method: 'PUT', path: '/tags/stable', body: { version: number } },
    { title: 'Roll back', method: 'POST', path: '/rollback', body: { version: number, reason: 'It was better.' } },
    undoCall('A mistake.'),
  ];
}

function Undo({ close }) {
  const doing = async (reason) => {
    const { version } = await ask(undoCall(reason));
    tell(`${happened(version)}.`);
    touch();
  };
  return html`<${Confirm} title="Take the last change back?" label="Take it back" doing=${doing} close=${close}>
    <p>The last change that was not taken back yet is undone, for everybody. The history keeps both.</p>
  <//>`;
}

/** Names of a version: a new one, and those that it has. */
function Name({ version, close }) {
  const [name, set] = useState('');
  const { busy, error, send } = useSend();
  const path = (tag) => `/tags/${encodeURIComponent(tag)}`;
  const done = (words) => {
    tell(words);
    touch();
    close();
  };
  const submit = async (event) => {
    event.preventDefault();
    const call = { method: 'PUT', path: path(name.trim()), body: { version: version.number } };
    if (await send(() => ask(call))) done(`Version ${version.number} is called “${name.trim()}”.`);
  };
  const take = async (tag) => {
    if (await send(() => ask({ method: 'DELETE', path: path(tag) }))) done(`No version is called “${tag}” any more.`);
  };
  return html`<${Dialog} title="Name version ${version.number}" close=${close}>
    <form onSubmit=${submit}>
      <p>A name is kept for as long as you want, and stands for this version wherever a version is asked for.</p>
      <${Line} label="Name" required max=${100} value=${name} set=${set} hint="As “stable” or “before the autumn”." />
      ${version.tags.map(
        (tag) =>
          html`<p key=${tag}><span class="said">${tag}</span> <button type="button" onClick=${() => take(tag)}>Take the name “${tag}” back</button></p>`,
      )}
      <${Trouble} error=${error} />
      <div class="actions">
        <button type="submit" class="primary" disabled=${busy || !name.trim()}>Give the name</button>
        <button type="button" onClick=${close}>Cancel</button>
      </div>
    </form>
  <//>`;
}

function Back({ version, last, close }) {
  const { data, error } = useRead({ method: 'GET', path: `/versions/${last}/diff/${version.number}` });
  const doing = async (reason) => {
    const body = { version: version.number };
    if (reason.trim()) body.reason = reason.trim();
    await ask({ method: 'POST', path: '/rollback', body });
    tell(`Version ${version.number} is what answers now.`);
    touch();
  };
  return html`<${Confirm} title="Roll back to version ${version.number}?" label="Roll back" danger doing=${doing} close=${close}>
    ${!data && !error && html`<${Waiting} rows=${2} what="Looking what that changes…" />`}
    ${data &&
    html`<p>
        ${many(data.difference.removed.length, 'fact')} would answer no more, and ${many(data.difference.added.length, 'fact')} would
        answer again. The versions between stay in the history, and you can take this back.
      </p>
      <${Lists} difference=${data.difference} />`}
  <//>`;
}

export function Difference({ before, after }) {
  const path = `/versions/${encodeURIComponent(before)}/diff/${encodeURIComponent(after)}`;
  const call = { title: 'What makes one version another', method: 'GET', path };
  const { data, error, again } = useRead(call);
  return html`<p><a href=${to('history')}>← History</a></p>
    <${Trouble} error=${error} again=${again} />
    ${!data && !error && html`<${Waiting} rows=${4} />`}
    ${data && html`<${Lists} difference=${data.difference} />`}
    <${Calls} calls=${[call]} />`;
}

function Lists({ difference }) {
  const { added, removed } = difference;
  if (!added.length && !removed.length) return html`<${Nothing}><p>The same facts answer in both.</p><//>`;
  return html`<div class="difference">
    ${removed.length > 0 && html`<${Some} title="Answer no more" sign="−" tone="bad" edits=${removed} />`}
    ${added.length > 0 && html`<${Some} title="Answer now" sign="+" tone="good" edits=${added} />`}
  </div>`;
}

function Some({ title, sign, tone, edits }) {
  return html`<section class="panel ${tone}">
    <h2>${title} <span class="hint">${many(edits.length, 'fact')}</span></h2>
    <ul class="plain">
      ${edits.map(
        (edit) =>
          html`<li key=${edit.id}>
            <span class="sign" aria-hidden="true">${sign}</span> <span class="said">${edit.prompt}</span>
            <span class="arrow" aria-label="answers">→</span> <strong class="said">${edit.target}</strong> <${FactLink} id=${edit.id} />
          </li>`,
      )}
    </ul>
  </section>`;
}
