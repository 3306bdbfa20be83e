// Drafts: what is proposed, and how far it is.
import { html } from '../lib/kit.js';
import { useRead } from '../lib/loading.js';
import { usePages } from '../lib/pages.js';
import { become, to } from '../lib/places.js';
import { about, may } from '../lib/session.js';
import { DRAFTS } from '../lib/words.js';
import { Calls } from '../parts/calls.js';
import { Choice } from '../parts/fields.js';
import { Badge, Moment, Nothing, Paging } from '../parts/small.js';
import { Trouble, Waiting } from '../parts/trouble.js';

const LIMIT = 25;
export const TONES = { waiting: '', training: 'accent', ready: 'good', failed: 'bad', published: '', rejected: '' };

export function Drafts({ query }) {
  const { state = '', before } = query;
  const call = { title: 'Look for drafts', method: 'GET', path: '/drafts', query: { state, before, limit: LIMIT } };
  const { data, error, busy, again } = useRead(call);
  const counts = about.value?.store.drafts ?? {};
  const named = (each) => (counts[each] ? `${DRAFTS[each]} (${counts[each]})` : DRAFTS[each]);
  const choose = (next) => {
    pages.first();
    become('drafts', { state: next });
  };
  const pages = usePages(before, data?.next, (next) => become('drafts', { state, before: next }));
  return html`<div class="bar bottom filters panel">
      <${Choice}
        label="State"
        value=${state}
        set=${choose}
        options=${[['', 'All'], ...Object.keys(DRAFTS).map((each) => [each, named(each)])]}
      />
      ${may('edit') && html`<a class="button" href=${to('add')}>Add a fact</a>`}
    </div>
    <${Trouble} error=${error} again=${again} />
    ${!data && busy && html`<${Waiting} rows=${6} />`}
    ${data && html`<${Table} drafts=${data.drafts} />`}
    <${Paging} newer=${pages.newer} older=${pages.older} />
    <${Calls} calls=${[call]} />`;
}

function Table({ drafts }) {
  if (!drafts.length) return html`<${Nothing}><p>There is no such draft.</p><//>`;
  return html`<table class="list">
    <caption class="aside">Drafts, the newest first</caption>
    <thead>
      <tr>
        <th scope="col" class="number">No.</th>
        <th scope="col">Question and answer</th>
        <th scope="col">State</th>
        <th scope="col" class="least">By</th>
        <th scope="col" class="less">When</th>
      </tr>
    </thead>
    <tbody>
      ${drafts.map(
        (draft) =>
          html`<tr key=${draft.id}>
            <td class="number">${draft.id}</td>
            <td>
              <a class="row" href=${to('drafts', draft.id)}><span class="said">${draft.prompt}</span></a>
              <p><strong class="said">${draft.target}</strong></p>
            </td>
            <td>
              <${Badge} tone=${TONES[draft.state]}>${DRAFTS[draft.state]}<//>
              ${draft.wrong && html`<p class="hint">reported as wrong</p>`}
              ${draft.replaces.length > 0 && html`<p class="hint">replaces fact ${draft.replaces.join(', ')}</p>`}
            </td>
            <td class="least said">${draft.author}</td>
            <td class="less"><${Moment} at=${draft.created} /></td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}
