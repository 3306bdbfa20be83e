// Audit: who did what, when and why.
import { html, useEffect, useState } from '../lib/kit.js';
import { useRead, useSettled } from '../lib/loading.js';
import { usePages } from '../lib/pages.js';
import { become } from '../lib/places.js';
import { Calls } from '../parts/calls.js';
import { Line } from '../parts/fields.js';
import { Moment, Nothing, Paging, Wide } from '../parts/small.js';
import { Trouble, Waiting } from '../parts/trouble.js';

const LIMIT = 50;

export function Audit({ query }) {
  const { actor = '', action = '', before } = query;
  const [who, setWho] = useState(actor);
  const [what, setWhat] = useState(action);
  const wanted = useSettled(`${who.trim()}\n${what.trim()}`);
  useEffect(() => {
    const [nextWho, nextWhat] = wanted.split('\n');
    if (nextWho === actor && nextWhat === action) return;
    pages.first();
    become('audit', { actor: nextWho, action: nextWhat });
  }, [wanted]);
  const call = { title: 'The audit log', method: 'GET', path: '/audit', query: { actor, action, before, limit: LIMIT } };
  const { data, error, busy, again } = useRead(call);
  const pages = usePages(before, data?.next, (next) => become('audit', { actor, action, before: next }));
  return html`<form class="columns panel" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Line} label="Who" type="search" value=${who} set=${setWho} hint="Exactly this name." />
      <${Line} label="What" type="search" value=${what} set=${setWhat} hint="As “draft.publish” or “key.make”." />
    </form>
    <${Trouble} error=${error} again=${again} />
    ${!data && busy && html`<${Waiting} rows=${10} />`}
    ${data && (data.events.length ? html`<${Table} events=${data.events} />` : html`<${Nothing}><p>Nothing is noted that is like that.</p><//>`)}
    <${Paging} newer=${pages.newer} older=${pages.older} />
    <${Calls} calls=${[call]} />`;
}

function Table({ events }) {
  return html`<${Wide} label="Audit log">
    <table class="list">
      <caption class="aside">Audit log, the latest first</caption>
      <thead>
        <tr>
          <th scope="col">When</th>
          <th scope="col">Who</th>
          <th scope="col">What</th>
          <th scope="col">To what</th>
          <th scope="col">Why</th>
          <th scope="col" class="number">Version</th>
        </tr>
      </thead>
      <tbody>
        ${events.map(
          (event) =>
            html`<tr key=${event.id}>
              <td class="nowrap"><${Moment} at=${event.at} /></td>
              <td class="said">${event.by.actor}</td>
              <td class="nowrap"><code>${event.action}</code></td>
              <td class="said">${event.object}</td>
              <td class="said">${event.by.reason}</td>
              <td class="number">${event.version ?? ''}</td>
            </tr>`,
        )}
      </tbody>
    </table>
  <//>`;
}
