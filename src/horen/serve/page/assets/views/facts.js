// Facts: all that is stored, looked for by words, tag, set, author and state.
import { ask, touch } from '../lib/api.js';
import { html, useEffect, useState } from '../lib/kit.js';
import { useRead, useSend, useSettled } from '../lib/loading.js';
import { usePages } from '../lib/pages.js';
import { become, go, to } from '../lib/places.js';
import { may } from '../lib/session.js';
import { many } from '../lib/words.js';
import { Calls } from '../parts/calls.js';
import { Choice, Line, Switch } from '../parts/fields.js';
import { Badge, Moment, Nothing, Paging, Tags } from '../parts/small.js';
import { tell, Trouble, Waiting } from '../parts/trouble.js';
import { undoing } from '../parts/undo.js';

const LIMIT = 25;
const STATES = [
  ['published', 'Published'],
  ['retired', 'Retired'],
  ['all', 'Published and retired'],
];

export function Facts({ query }) {
  const { text = '', state = 'published', tag, set, author, subject, before } = query;
  const [typed, type] = useState(text);
  const settled = useSettled(typed);
  const change = (part) => {
    const next = { text, state: state === 'published' ? '' : state, tag, set, author, subject, ...part };
    if (!('before' in part)) pages.first();
    become('facts', next);
  };
  useEffect(() => {
    if (settled.trim() !== text) change({ text: settled.trim() });
  }, [settled]);
  const call = {
    title: 'Look for facts',
    method: 'GET',
    path: '/edits',
    query: { text, state: state === 'all' ? '' : state, tag, set, author, subject, before, limit: LIMIT, count: true },
  };
  const { data, error, busy, again } = useRead(call);
  const pages = usePages(before, data?.next, (next) => change({ before: next }));
  return html`<${Sets} />
    <form class="filters panel" role="search" onSubmit=${(event) => event.preventDefault()}>
      <${Line} label="Search" type="search" value=${typed} set=${type} />
      <${Choice} label="State" value=${state} set=${(next) => change({ state: next === 'published' ? '' : next })} options=${STATES} />
      <${Filters} now=${{ tag, set, author }} change=${change} />
    </form>
    ${subject && html`<p class="hint">About “${subject}” only. <a href=${to('facts')}>Show all</a></p>`}
    <${Trouble} error=${error} again=${again} />
    ${!data && busy && html`<${Waiting} rows=${8} />`}
    ${data && html`<${Table} data=${data} filtered=${Boolean(text || tag || set || author || subject || state !== 'published')} />`}
    <${Paging} newer=${pages.newer} older=${pages.older} />
    <${Calls} calls=${[call]} />`;
}

function Filters({ now, change }) {
  const { data } = useRead({ method: 'GET', path: '/facets' });
  const listed = (name, found, any) => {
    const names = Object.keys(found ?? {});
    if (now[name] && !names.includes(now[name])) names.unshift(now[name]);
    return [['', any], ...names.map((each) => [each, found?.[each] ? `${each} (${found[each]})` : each])];
  };
  return html`<${Choice} label="Tag" value=${now.tag ?? ''} set=${(tag) => change({ tag })} options=${listed('tag', data?.tags, 'Any')} />
    <${Choice} label="Set" value=${now.set ?? ''} set=${(set) => change({ set })} options=${listed('set', data?.sets, 'Any')} />
    <${Choice} label="By" value=${now.author ?? ''} set=${(author) => change({ author })}
      options=${listed('author', data?.authors, 'Anybody')} />`;
}

function Table({ data, filtered }) {
  if (!data.edits.length) {
    return html`<${Nothing}>
      ${filtered ? html`<p>No fact is like that. <a href=${to('facts')}>Show all</a></p>` : html`<p>Nothing is stored yet.</p>`}
      ${may('edit') && html`<p><a href=${to('add')}>Add a fact</a></p>`}
    <//>`;
  }
  return html`<p class="hint" role="status">${many(data.count, 'fact')}</p>
    <table class="list facts">
      <caption class="aside">Facts, the newest first</caption>
      <thead>
        <tr>
          <th scope="col" class="number">No.</th>
          <th scope="col">Question and answer</th>
          <th scope="col" class="least">By</th>
          <th scope="col" class="less">When</th>
        </tr>
      </thead>
      <tbody>
        ${data.edits.map(
          (edit) =>
            html`<tr key=${edit.id} class=${edit.active ? '' : 'asleep'}>
              <td class="number">${edit.id}</td>
              <td>
                <a class="row" href=${to('facts', edit.id)}><span class="said">${edit.prompt}</span></a>
                <p><strong class="said">${edit.target}</strong></p>
                <p class="under">
                  <${Tags} tags=${edit.facts.tags} set=${edit.facts.set} />
                  ${edit.state === 'retired' && html`<${Badge}>retired<//>`}
                  ${edit.state === 'published' && !edit.active && html`<${Badge} tone="warn">its set is off<//>`}
                </p>
              </td>
              <td class="least said">${edit.author}</td>
              <td class="less"><${Moment} at=${edit.created} /></td>
            </tr>`,
        )}
      </tbody>
    </table>`;
}

/** Sets with their switches. */
function Sets() {
  const { data, again } = useRead({ method: 'GET', path: '/sets' });
  if (!data?.sets.length) {
    return may('publish') && data ? html`<p class="sets hint">Facts can belong to <a href=${to('sets')}>sets</a>, which are switched on and off together.</p>` : html`<p class="sets"></p>`;
  }
  return html`<section class="bar sets" aria-label="Sets">
    <span class="label">Sets</span>
    ${data.sets.map((set) => html`<${SetSwitch} key=${set.name} set=${set} again=${again} />`)}
    <button type="button" class="quiet" onClick=${() => go('sets')}>All sets</button>
  </section>`;
}

/** One set's switch, for everybody. */
export function SetSwitch({ set, again }) {
  const { busy, error, send } = useSend();
  const turn = async (on) => {
    const call = { method: 'POST', path: `/sets/${encodeURIComponent(set.name)}/switch`, body: { on } };
    const done = await send(() => ask(call));
    if (!done) return;
    tell(`The set “${set.name}” is switched ${on ? 'on' : 'off'} for everybody.`, undoing(done.version));
    again?.();
    touch();
  };
  const name = html`<span class="said">${set.name}</span> <span class="hint">${set.edits}</span>`;
  return html`<${Switch} label="Set ${set.name}" value=${set.on} set=${turn} busy=${busy} disabled=${!may('publish')}>${name}<//>
    <${Trouble} error=${error} />`;
}
