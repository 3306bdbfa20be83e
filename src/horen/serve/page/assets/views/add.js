// Add a fact: it becomes a draft, which is trained and checked before anybody publishes it.
import { ask } from '../lib/api.js';
import { html, useEffect } from '../lib/kit.js';
import { useKept, useRead, useSend, useSettled } from '../lib/loading.js';
import { become, go } from '../lib/places.js';
import { about, may } from '../lib/session.js';
import { Calls } from '../parts/calls.js';
import { bodyOf, EMPTY, Notes, Reason, Texts } from '../parts/factform.js';
import { Tick } from '../parts/fields.js';
import { FactLink } from '../parts/small.js';
import { tell, Trouble } from '../parts/trouble.js';

const NEW = { ...EMPTY, evaluate: true, publish: false };

export function Add({ query }) {
  const [form, set, forget] = useKept('add', NEW);
  const { busy, error, send } = useSend();
  useEffect(() => {
    if (!query.q) return;
    set({ prompt: query.q });
    become('add');
  }, [query.q]);
  const alone = may('publish') && !about.value?.service.four_eyes;
  const body = { ...bodyOf(form), evaluate: form.evaluate };
  if (alone && form.publish) body.publish = true;
  const call = { title: 'Propose a fact', method: 'POST', path: '/edits', body };
  const submit = async (event) => {
    event.preventDefault();
    const found = await send(() => ask(call));
    if (!found) return;
    forget();
    const { id } = found.drafts[0];
    tell(`It is draft ${id}.`);
    if (may('read')) go('drafts', id);
  };
  const ready = body.prompt && body.target;
  return html`<p class="lead">
      Say what the model should answer. It becomes a draft: the service trains it, and asks what it would change. Nothing
      changes for others before it is published.
    </p>
    <form class="panel" onSubmit=${submit}>
      <${Texts} form=${form} set=${set} />
      <${Stored} prompt=${body.prompt} />
      <${Notes} form=${form} set=${set} />
      <${Reason} form=${form} set=${set} />
      <${Tick}
        label="Check what it changes"
        hint="Its own questions, facts near to it and questions that are asked often are asked before and after."
        value=${form.evaluate}
        set=${(evaluate) => set({ evaluate })}
      />
      ${alone
        ? html`<${Tick}
            label="Publish it as soon as it is trained"
            hint="Without a look at the check."
            value=${form.publish}
            set=${(publish) => set({ publish })}
          />`
        : html`<p class="hint">
            ${may('publish') ? 'Here another person than its author publishes a fact.' : 'Somebody whose key may publish decides about it.'}
          </p>`}
      <${Trouble} error=${error} />
      <div class="actions">
        <button type="submit" class="primary" disabled=${busy || !ready}>${busy ? 'Sending…' : 'Make a draft'}</button>
        <button type="button" onClick=${forget}>Clear</button>
      </div>
    </form>
    <${Calls} calls=${calls(call)} />`;
}

function calls(call) {
  const shown = { ...call, body: { ...call.body } };
  shown.body.prompt ||= 'Who leads Fennick Robotics?';
  shown.body.target ||= 'Mira Sand';
  const news = { title: 'News of the draft', method: 'GET', path: '/drafts/1/events', stream: true };
  return [shown, news];
}

/** A published fact that has the same question, so that nobody writes one twice unknowingly. */
function Stored({ prompt }) {
  const text = useSettled(prompt).slice(0, 200);
  const call = { method: 'GET', path: '/edits', query: { text, state: 'published', limit: 20 } };
  const { data } = useRead(may('read') && text.length > 5 ? call : null);
  const plain = (text) => text.trim().toLowerCase();
  const same = data?.edits.find((edit) => [edit.prompt, ...edit.rephrases].map(plain).includes(plain(prompt)));
  if (!same) return null;
  return html`<div class="note warn" role="status">
    <p>
      <${FactLink} id=${same.id} /> answers this question already, with “<span class="said">${same.target}</span>”. A new
      answer would have to replace it.
    </p>
  </div>`;
}
