// Keys: who may do what; for those alone who run the service.
import { ask, key as own, touch } from '../lib/api.js';
import { html, useState } from '../lib/kit.js';
import { useRead, useSend } from '../lib/loading.js';
import { enter } from '../lib/session.js';
import { SCOPES } from '../lib/words.js';
import { Calls } from '../parts/calls.js';
import { Confirm, Dialog } from '../parts/dialog.js';
import { Line, Tick } from '../parts/fields.js';
import { Badge, Moment, Nothing } from '../parts/small.js';
import { tell, Trouble, Waiting } from '../parts/trouble.js';

export function Keys() {
  const call = { title: 'All keys', method: 'GET', path: '/keys' };
  const { data, error, again } = useRead(call);
  const [doing, set] = useState(null);
  const close = () => set(null);
  const told = (secret) => {
    set({ secret });
    again();
  };
  if (!data) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Waiting} rows=${6} />`;
  return html`<div class="bar panel">
      <p class="grow">Each person and each program has a key of their own. Its name is what the history calls them.</p>
      <button type="button" class="primary" onClick=${() => set({ make: true })}>New key…</button>
    </div>
    ${data.keys.length ? html`<${Table} keys=${data.keys} set=${set} />` : html`<${None} />`}
    <${Calls} calls=${calls(call)} />
    ${doing?.make && html`<${Make} first=${!data.keys.length} told=${told} close=${close} />`}
    ${doing?.secret && html`<${Secret} made=${doing.secret} close=${close} />`}
    ${doing?.rotate && html`<${Rotate} one=${doing.rotate} told=${told} close=${close} />`}
    ${doing?.revoke && html`<${Revoke} one=${doing.revoke} close=${close} again=${again} />`}`;
}

function calls(call) {
  return [
    call,
    { title: 'Make a key', method: 'POST', path: '/keys', body: { name: 'mira', scopes: ['ask', 'read'] } },
    { title: 'Give it another secret', method: 'POST', path: '/keys/1/rotate' },
    { title: 'Take it back', method: 'DELETE', path: '/keys/1' },
  ];
}

const None = () => html`<${Nothing}>
  <p>There is no key yet: everybody on this machine may do everything.</p>
  <p>With the first key, which must have all rights, every request needs one.</p>
<//>`;

function Table({ keys, set }) {
  return html`<table class="list">
    <caption class="aside">Keys</caption>
    <thead>
      <tr>
        <th scope="col">Name</th>
        <th scope="col">May</th>
        <th scope="col" class="less">Last used</th>
        <th scope="col" class="least">Until</th>
        <th scope="col"><span class="aside">Actions</span></th>
      </tr>
    </thead>
    <tbody>
      ${keys.map(
        (one) =>
          html`<tr key=${one.id} class=${one.revoked ? 'asleep' : ''}>
            <td><span class="said">${one.name}</span> ${one.revoked && html`<${Badge}>taken back<//>`}</td>
            <td>${one.scopes.map((scope) => html`<${Badge} key=${scope}>${scope}<//> `)}</td>
            <td class="less"><${Moment} at=${one.used} /></td>
            <td class="least"><${Moment} at=${one.expires} /></td>
            <td class="end">
              ${!one.revoked &&
              html`<button type="button" onClick=${() => set({ rotate: one })}>Renew…<span class="aside"> ${one.name}</span></button>
                <button type="button" class="danger" onClick=${() => set({ revoke: one })}>Take back…<span class="aside"> ${one.name}</span></button>`}
            </td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function Make({ first, told, close }) {
  const [name, setName] = useState('');
  const [scopes, setScopes] = useState(first ? ['admin'] : ['ask', 'read']);
  const [until, setUntil] = useState('');
  const { busy, error, send } = useSend();
  const toggle = (scope, on) => setScopes(on ? [...scopes, scope] : scopes.filter((each) => each !== scope));
  const submit = async (event) => {
    event.preventDefault();
    const body = { name: name.trim(), scopes };
    if (until) body.expires = new Date(`${until}T00:00:00`).toISOString();
    const made = await send(() => ask({ method: 'POST', path: '/keys', body }));
    if (!made) return;
    // From the first key on this page needs one too.
    if (first && !own.value) await enter(made.secret);
    told({ ...made, first });
  };
  return html`<${Dialog} title="New key" close=${close}>
    <form onSubmit=${submit}>
      <${Line} label="Name" required max=${100} value=${name} set=${setName} hint="Who holds it: a person or a program." />
      <fieldset>
        <legend>What it may be used for</legend>
        ${Object.entries(SCOPES).map(
          ([scope, words]) =>
            html`<${Tick} key=${scope} label=${words} hint=${scope} value=${scopes.includes(scope)} set=${(on) => toggle(scope, on)} />`,
        )}
      </fieldset>
      <${Line} label="Until" type="date" optional value=${until} set=${setUntil} hint="A day from which it is not taken any more." />
      <${Trouble} error=${error} />
      <div class="actions">
        <button type="submit" class="primary" disabled=${busy || !name.trim() || !scopes.length}>${busy ? 'Making…' : 'Make the key'}</button>
        <button type="button" onClick=${close}>Cancel</button>
      </div>
    </form>
  <//>`;
}

/** A secret, which is shown this once. */
function Secret({ made, close }) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(made.secret);
      tell('Copied.');
    } catch {
      tell('It cannot be copied by itself here: select it and press Ctrl+C.');
    }
  };
  return html`<${Dialog} title="The key of ${made.key.name}" close=${close}>
    <p>This is shown this once: give it to whoever it is for, or keep it safe.</p>
    <p class="secret"><code>${made.secret}</code></p>
    ${made.first && html`<p class="hint">From now on every request needs a key. This tab uses the new one.</p>`}
    <div class="actions">
      <button type="button" class="primary" onClick=${copy}>Copy</button>
      <button type="button" onClick=${close}>Done</button>
    </div>
  <//>`;
}

function Rotate({ one, told, close }) {
  const { busy, error, send } = useSend();
  const doing = async () => {
    const made = await send(() => ask({ method: 'POST', path: `/keys/${one.id}/rotate` }));
    if (made) told(made);
  };
  return html`<${Dialog} title="Renew the key of ${one.name}?" close=${close}>
    <p>It gets another secret, and the one before is not taken any more.</p>
    <${Trouble} error=${error} />
    <div class="actions">
      <button type="button" class="primary" disabled=${busy} onClick=${doing}>Renew</button>
      <button type="button" onClick=${close}>Cancel</button>
    </div>
  <//>`;
}

function Revoke({ one, close, again }) {
  const doing = async () => {
    await ask({ method: 'DELETE', path: `/keys/${one.id}` });
    tell(`The key of ${one.name} is taken back.`);
    again();
    touch();
  };
  return html`<${Confirm} title="Take back the key of ${one.name}?" label="Take back" danger reasoned=${false} doing=${doing} close=${close}>
    <p>Whoever holds it can do nothing with it any more. This cannot be taken back.</p>
  <//>`;
}
