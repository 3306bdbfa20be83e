// Sets: groups of facts that are switched on and off together; made, merged and dropped.
import { ask, touch } from '../lib/api.js';
import { html, useState } from '../lib/kit.js';
import { useRead, useSend } from '../lib/loading.js';
import { to } from '../lib/places.js';
import { may } from '../lib/session.js';
import { many } from '../lib/words.js';
import { Calls } from '../parts/calls.js';
import { Clashes } from '../parts/clashes.js';
import { Confirm } from '../parts/dialog.js';
import { Choice, Line } from '../parts/fields.js';
import { Nothing } from '../parts/small.js';
import { tell, Trouble, Waiting } from '../parts/trouble.js';
import { undoing } from '../parts/undo.js';
import { SetSwitch } from './facts.js';

const path = (name) => `/sets/${encodeURIComponent(name)}`;

export function Sets() {
  const call = { title: 'All sets', method: 'GET', path: '/sets' };
  const { data, error, again } = useRead(call);
  const [doing, set] = useState(null);
  const close = () => set(null);
  if (!data) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Waiting} rows=${4} />`;
  const { sets } = data;
  return html`<p class="lead">Facts of one set are switched on and off together, for everybody.</p>
    ${may('publish') && html`<${Make} again=${again} />`}
    ${sets.length === 0 && html`<${Nothing}><p>There is no set yet.</p><//>`}
    ${sets.length > 0 &&
    html`<table class="list">
      <caption class="aside">Sets</caption>
      <thead>
        <tr><th scope="col">Set</th><th scope="col" class="number">Facts</th><th scope="col"><span class="aside">Actions</span></th></tr>
      </thead>
      <tbody>
        ${sets.map(
          (one) =>
            html`<tr key=${one.name}>
              <td><${SetSwitch} set=${one} again=${again} /></td>
              <td class="number"><a href=${to('facts', { set: one.name })}>${one.edits}<span class="aside"> facts of ${one.name}</span></a></td>
              <td class="end">
                ${may('publish') &&
                html`${sets.length > 1 &&
                  html`<button type="button" onClick=${() => set({ merge: one })}>Merge…<span class="aside"> ${one.name}</span></button>`}
                  <button type="button" class="danger" onClick=${() => set({ drop: one })}>Drop…<span class="aside"> ${one.name}</span></button>`}
              </td>
            </tr>`,
        )}
      </tbody>
    </table>`}
    <${Calls} calls=${calls(call, sets)} />
    ${doing?.drop && html`<${Drop} one=${doing.drop} close=${close} />`}
    ${doing?.merge && html`<${Merge} one=${doing.merge} sets=${sets} close=${close} />`}`;
}

function calls(call, sets) {
  const name = sets[0]?.name ?? 'autumn';
  if (!may('publish')) return [call];
  return [
    call,
    { title: 'Make a set', method: 'PUT', path: path(name), body: { on: true } },
    { title: 'Switch it', method: 'POST', path: `${path(name)}/switch`, body: { on: false } },
  ];
}

function Make({ again }) {
  const [name, set] = useState('');
  const { busy, error, send } = useSend();
  const submit = async (event) => {
    event.preventDefault();
    const done = await send(() => ask({ method: 'PUT', path: path(name.trim()), body: { on: true } }));
    if (!done) return;
    tell(`The set “${name.trim()}” is there.`);
    set('');
    again();
    touch();
  };
  return html`<form class="panel bar bottom" onSubmit=${submit}>
    <${Line} label="Name of a new set" max=${100} value=${name} set=${set} />
    <button type="submit" class="primary" disabled=${busy || !name.trim()}>Make the set</button>
    <${Trouble} error=${error} />
  </form>`;
}

function Drop({ one, close }) {
  const doing = async (reason) => {
    await ask({ method: 'DELETE', path: path(one.name), query: { reason: reason.trim() } });
    tell(`The set “${one.name}” is gone; its facts are still there.`);
    touch();
  };
  return html`<${Confirm} title="Drop the set “${one.name}”?" label="Drop the set" danger doing=${doing} close=${close}>
    <p>Its ${many(one.edits, 'fact')} stay, and belong to no set.${!one.on && ' Those that it kept from answering can answer again.'}</p>
  <//>`;
}

const RULES = [
  ['error', 'Do nothing'],
  ['ours', 'Keep the fact of the set that stays'],
  ['theirs', 'Keep the fact that comes'],
];

function Merge({ one, sets, close }) {
  const others = sets.map((each) => each.name).filter((name) => name !== one.name);
  const [into, setInto] = useState(others[0]);
  const [rule, setRule] = useState('error');
  const { data } = useRead({ method: 'GET', path: `${path(into)}/clashes/${encodeURIComponent(one.name)}` });
  const doing = async (reason) => {
    const body = { other: one.name, on_conflict: rule };
    if (reason.trim()) body.reason = reason.trim();
    const { version } = await ask({ method: 'POST', path: `${path(into)}/merge`, body });
    tell(`The facts of “${one.name}” are in “${into}” now.`, undoing(version));
    touch();
  };
  return html`<${Confirm} title="Merge the set “${one.name}” into another" label="Merge" doing=${doing} close=${close}>
    <${Choice} label="Set that stays" value=${into} set=${setInto} options=${others.map((name) => [name, name])} />
    ${data?.clashes.length > 0 &&
    html`<p>They contradict each other in ${many(data.clashes.length, 'fact')}:</p>
      <${Clashes} clashes=${data.clashes} ours=${`In “${into}”`} theirs=${`In “${one.name}”`} />
      <${Choice} label="Where they do" value=${rule} set=${setRule} options=${RULES} />`}
    ${data?.clashes.length === 0 && html`<p>They do not contradict each other.</p>`}
  <//>`;
}
