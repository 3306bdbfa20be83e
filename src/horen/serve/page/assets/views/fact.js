// One fact: what it says, what is noted of it, its history; changed in place, or removed.
import { ask, touch } from '../lib/api.js';
import { html, useState } from '../lib/kit.js';
import { useKept, useRead, useSend } from '../lib/loading.js';
import { go, to } from '../lib/places.js';
import { may } from '../lib/session.js';
import { many, lines } from '../lib/words.js';
import { Calls } from '../parts/calls.js';
import { Confirm } from '../parts/dialog.js';
import { Area } from '../parts/fields.js';
import { formOf, Notes, notesOf, Reason } from '../parts/factform.js';
import { Badge, FactLink, Moment, Pairs, Source, Tags } from '../parts/small.js';
import { tell, Trouble, Waiting } from '../parts/trouble.js';
import { undoing } from '../parts/undo.js';
import { Versions } from '../parts/versions.js';

export function Fact({ id }) {
  const call = { title: 'The fact', method: 'GET', path: `/edits/${id}` };
  const { data, error, again } = useRead(call);
  const [doing, set] = useState('');
  const close = () => set('');
  if (!data) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Waiting} rows=${8} />`;
  const { edit, versions } = data;
  const published = edit.state === 'published';
  return html`<article class="panel">
      <${State} edit=${edit} />
      <p class="question said">${edit.prompt}</p>
      <p class="reply said">${edit.target}</p>
      ${doing === 'answer' && html`<${Answer} edit=${edit} close=${close} />`}
      ${edit.rephrases.length > 0 &&
      html`<h2>Other ways to ask</h2>
        <ul class="said">${edit.rephrases.map((text) => html`<li key=${text}>${text}</li>`)}</ul>`}
      ${doing === 'notes' ? html`<${Noted} edit=${edit} close=${close} />` : html`<${Told} edit=${edit} />`}
      ${!doing && html`<${Actions} edit=${edit} published=${published} set=${set} />`}
    </article>
    <section aria-labelledby="versions">
      <h2 id="versions">History of this fact</h2>
      <${Versions} versions=${versions} />
    </section>
    <${Calls} calls=${calls(call, edit)} />
    ${doing === 'remove' && html`<${Remove} edit=${edit} close=${close} />`}`;
}

function State({ edit }) {
  if (edit.active) return html`<p><${Badge} tone="good">answers<//></p>`;
  if (edit.state === 'retired') return html`<p><${Badge}>retired<//> <span class="hint">It does not answer any more.</span></p>`;
  return html`<p>
    <${Badge} tone="warn">its set is off<//> <span class="hint">It answers again when the set “${edit.facts.set}” is switched on.</span>
  </p>`;
}

function Told({ edit }) {
  const { facts, receipt } = edit;
  const trained = receipt.steps
    ? `${many(receipt.steps, 'step')}, ${receipt.converged ? 'learned well' : 'not learned surely'}`
    : receipt.reused && 'as another fact with the same answer';
  return html`<${Pairs}
    of=${[
      ['Subject', facts.subject && html`<a class="said" href=${to('facts', { subject: facts.subject })}>${facts.subject}</a>`],
      ['Source', facts.source && html`<${Source} text=${facts.source} />`],
      ['Filed under', (facts.tags.length > 0 || facts.set) && html`<${Tags} tags=${facts.tags} set=${facts.set} />`],
      ['By', html`<span class="said">${edit.author}</span>, <${Moment} at=${edit.created} />`],
      ['Why', edit.reason && html`<span class="said">${edit.reason}</span>`],
      ['Took the place of', edit.replaces.length > 0 && edit.replaces.map((one) => html`<${FactLink} key=${one} id=${one} /> `)],
      ['Draft', edit.draft && html`<a href=${to('drafts', edit.draft)}>Draft ${edit.draft}</a>`],
      ['Training', trained],
    ]}
  />`;
}

function Actions({ edit, published, set }) {
  if (!published) return null;
  return html`<div class="actions">
    ${may('ask') && html`<button type="button" onClick=${() => go('ask', { q: edit.prompt })}>Ask it</button>`}
    ${may('edit') && html`<button type="button" onClick=${() => set('answer')}>Change the answer…</button>`}
    ${may('publish') && html`<button type="button" onClick=${() => set('notes')}>Change what is noted…</button>`}
    ${may('publish') && html`<button type="button" class="danger" onClick=${() => set('remove')}>Remove…</button>`}
    ${!may('edit') && html`<p class="hint">To change it, your key needs the right “edit” or “publish”.</p>`}
  </div>`;
}

/** Another answer, in place: it becomes a draft. */
function Answer({ edit, close }) {
  const [form, set, forget] = useKept(`answer.${edit.id}`, { target: edit.target, rephrases: edit.rephrases.join('\n'), reason: '' });
  const { busy, error, send } = useSend();
  const submit = async (event) => {
    event.preventDefault();
    const found = await send(() => ask(supersedeCall(edit, form)));
    if (!found) return;
    forget();
    tell(`It is draft ${found.drafts[0].id}; this fact answers until the draft is published.`);
    go('drafts', found.drafts[0].id);
  };
  const same = form.target.trim() === edit.target && form.rephrases === edit.rephrases.join('\n');
  return html`<form class="inline" onSubmit=${submit}>
    <${Area} label="New answer" required rows=${2} value=${form.target} set=${(target) => set({ target })} />
    <${Area} label="Other ways to ask" optional rows=${2} value=${form.rephrases} set=${(rephrases) => set({ rephrases })} hint="One a line." />
    <${Reason} form=${form} set=${set} />
    <${Trouble} error=${error} />
    <div class="actions">
      <button type="submit" class="primary" disabled=${busy || same || !form.target.trim()}>${busy ? 'Sending…' : 'Make a draft'}</button>
      <button type="button" onClick=${() => (forget(), close())}>Cancel</button>
    </div>
  </form>`;
}

function supersedeCall(edit, form) {
  const body = { target: form.target.trim(), evaluate: true };
  if (form.rephrases !== edit.rephrases.join('\n')) body.rephrases = lines(form.rephrases);
  if (form.reason.trim()) body.reason = form.reason.trim();
  return { title: 'Give it another answer', method: 'POST', path: `/edits/${edit.id}/supersede`, body };
}

/** What is noted of it, in place. */
function Noted({ edit, close }) {
  const [form, set, forget] = useKept(`notes.${edit.id}`, formOf(edit));
  const { busy, error, send } = useSend();
  const submit = async (event) => {
    event.preventDefault();
    const done = await send(() => ask(notesCall(edit, form)));
    if (!done) return;
    forget();
    close();
    touch();
    tell('What is noted of the fact is changed.', undoing(done.version));
  };
  return html`<form class="inline" onSubmit=${submit}>
    <${Notes} form=${form} set=${set} />
    <${Reason} form=${form} set=${set} />
    <${Trouble} error=${error} />
    <div class="actions">
      <button type="submit" class="primary" disabled=${busy}>${busy ? 'Saving…' : 'Save'}</button>
      <button type="button" onClick=${() => (forget(), close())}>Cancel</button>
    </div>
  </form>`;
}

function notesCall(edit, form) {
  const body = notesOf(form);
  if (form.reason.trim()) body.reason = form.reason.trim();
  return { title: 'Change what is noted', method: 'PATCH', path: `/edits/${edit.id}`, body };
}

function Remove({ edit, close }) {
  const doing = async (reason) => {
    const { version } = await ask({ method: 'DELETE', path: `/edits/${edit.id}`, query: { reason: reason.trim() } });
    tell(`Fact ${edit.id} is removed.`, undoing(version));
    touch();
  };
  return html`<${Confirm} title="Remove fact ${edit.id}?" label="Remove" danger doing=${doing} close=${close}>
    <p>The model will answer “<span class="said">${edit.prompt}</span>” as if the fact had never been there. You can take this back.</p>
  <//>`;
}

function calls(call, edit) {
  const list = [call];
  if (edit.state !== 'published') return list;
  if (may('edit')) list.push(supersedeCall(edit, { target: 'Another answer', rephrases: edit.rephrases.join('\n'), reason: '' }));
  if (may('publish')) {
    list.push(notesCall(edit, formOf(edit)));
    list.push({ title: 'Remove it', method: 'DELETE', path: `/edits/${edit.id}`, query: { reason: 'Not true any more.' } });
  }
  return list;
}
