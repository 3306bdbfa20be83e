// One draft: from training over its check to the decision.
import { ask, touch } from '../lib/api.js';
import { html, useState } from '../lib/kit.js';
import { useKept, useRead, useSend } from '../lib/loading.js';
import { newsCall, useDraft } from '../lib/news.js';
import { about, may, you } from '../lib/session.js';
import { DRAFTS, facts, many } from '../lib/words.js';
import { Calls } from '../parts/calls.js';
import { Clashes } from '../parts/clashes.js';
import { Confirm } from '../parts/dialog.js';
import { Evaluation } from '../parts/evaluation.js';
import { bodyOf, formOf, Notes, notesOf, Reason, Texts } from '../parts/factform.js';
import { Badge, FactLink, Moment, Pairs, Source, Tags } from '../parts/small.js';
import { tell, Trouble, Waiting } from '../parts/trouble.js';
import { TONES } from './drafts.js';

const OPEN = new Set(['waiting', 'training', 'ready', 'failed']);

export function Draft({ id }) {
  const { draft, error, again } = useDraft(id);
  const [doing, set] = useState('');
  const [replaces, setReplaces] = useState(null);
  const close = () => set('');
  if (!draft) return error ? html`<${Trouble} error=${error} again=${again} />` : html`<${Waiting} rows=${8} />`;
  return html`<article class="panel">
      <p><${Badge} tone=${TONES[draft.state]}>${DRAFTS[draft.state]}<//></p>
      <${Progress} draft=${draft} />
      ${doing === 'revise'
        ? html`<${Revise} draft=${draft} close=${close} again=${again} />`
        : html`<p class="question said">${draft.prompt}</p>
            <p class="reply said">${draft.target}</p>
            <${Told} draft=${draft} />`}
      ${OPEN.has(draft.state) && doing !== 'revise' && html`<${Actions} draft=${draft} set=${set} again=${again} />`}
    </article>
    ${OPEN.has(draft.state) && html`<${Similar} draft=${draft} replaces=${replaces} set=${setReplaces} />`}
    <${Checked} draft=${draft} again=${again} />
    <${Calls} calls=${calls(draft)} />
    ${doing === 'publish' && html`<${Publish} draft=${draft} replaces=${replaces} close=${close} again=${again} />`}
    ${doing === 'reject' && html`<${Reject} draft=${draft} close=${close} again=${again} />`}`;
}

/** How far it is, in words and as a bar. */
function Progress({ draft }) {
  const { state, done, total } = draft;
  if (state === 'failed') return html`<div class="note bad" role="alert"><p>${draft.error}</p></div>`;
  if (state !== 'waiting' && state !== 'training') {
    return draft.error && OPEN.has(state) ? html`<div class="note warn"><p>${draft.error}</p></div>` : null;
  }
  const off = about.value?.service.trains === false;
  const words = state === 'waiting' ? 'It waits for a trainer.' : `In training: step ${done} of ${total}.`;
  return html`<div class="progress">
    <progress aria-label="Training" max=${total || 1} value=${state === 'waiting' ? 0 : done}></progress>
    <p class="hint" role="status">${off ? 'The trainer of this service has stopped: tell whoever runs it.' : words}</p>
  </div>`;
}

function Told({ draft }) {
  const { facts: noted, receipt } = draft;
  const learned = receipt.steps
    ? `${receipt.converged ? 'Learned' : 'Not learned surely'}, in ${many(receipt.steps, 'step')}`
    : receipt.reused && 'Learned, as another fact with the same answer';
  return html`<${Pairs}
    of=${[
      ['Answered before', draft.wrong && html`<span class="said">${draft.wrong}</span>`],
      ['Other ways to ask', draft.rephrases.length > 0 && html`<ul class="said">${draft.rephrases.map((text) => html`<li key=${text}>${text}</li>`)}</ul>`],
      ['Takes the place of', draft.replaces.length > 0 && draft.replaces.map((one) => html`<${FactLink} key=${one} id=${one} /> `)],
      ['Subject', noted.subject && html`<span class="said">${noted.subject}</span>`],
      ['Source', noted.source && html`<${Source} text=${noted.source} />`],
      ['Filed under', (noted.tags.length > 0 || noted.set) && html`<${Tags} tags=${noted.tags} set=${noted.set} />`],
      ['By', html`<span class="said">${draft.author}</span>, <${Moment} at=${draft.created} />`],
      ['Why', draft.reason && html`<span class="said">${draft.reason}</span>`],
      ['Training', learned],
      ['Decided', draft.decided_by && html`<span class="said">${draft.decided_by}</span>, <${Moment} at=${draft.decided_at} />`],
      ['With the words', draft.decision && html`<span class="said">${draft.decision}</span>`],
      ['Became', draft.edit && html`<${FactLink} id=${draft.edit} />`],
      ['When trained', OPEN.has(draft.state) && draft.publish && 'published by itself'],
    ]}
  />`;
}

function Actions({ draft, set, again }) {
  const mine = draft.author === you.value.actor;
  const eyes = about.value?.service.four_eyes && mine;
  const { busy, error, send } = useSend();
  const evaluate = async () => {
    const done = await send(() => ask(evaluateCall(draft)));
    if (done) again();
  };
  const publishes = may('publish') && draft.state === 'ready';
  return html`<div class="actions">
      ${publishes && !eyes && html`<button type="button" class="primary" onClick=${() => set('publish')}>Publish…</button>`}
      ${may('edit') && html`<button type="button" onClick=${() => set('revise')}>Revise…</button>`}
      ${may('edit') &&
      draft.state === 'ready' &&
      html`<button type="button" disabled=${busy} onClick=${evaluate}>${draft.evaluation ? 'Check again' : 'Check what it changes'}</button>`}
      ${(may('publish') || (may('edit') && mine)) &&
      html`<button type="button" class="danger" onClick=${() => set('reject')}>Reject…</button>`}
    </div>
    <${Trouble} error=${error} />
    ${publishes && eyes && html`<p class="hint">You wrote this draft: here another person publishes it (four eyes).</p>`}
    ${!may('publish') && draft.state === 'ready' && html`<p class="hint">Somebody whose key may publish decides about it.</p>`}`;
}

/** A fact that the draft seems to correct: both sides, and whether it shall be replaced. */
function Similar({ draft, replaces, set }) {
  const near = draft.similar && !draft.replaces.includes(draft.similar) ? draft.similar : null;
  const { data } = useRead(near ? { method: 'GET', path: `/edits/${near}` } : null);
  if (!near || !data || data.edit.state !== 'published') return null;
  const chosen = replaces?.includes(near);
  return html`<section class="panel" aria-labelledby="similar">
    <h2 id="similar">It seems to correct a fact that is there</h2>
    <${Clashes} clashes=${[{ ours: data.edit, theirs: draft }]} ours="There now" theirs="This draft" />
    ${may('publish') &&
    html`<button type="button" aria-pressed=${chosen ? 'true' : 'false'} onClick=${() => set(chosen ? null : [...draft.replaces, near])}>
      ${chosen ? `Fact ${near} will be replaced` : `Replace fact ${near} when publishing`}
    </button>`}
  </section>`;
}

function Checked({ draft, again }) {
  if (!draft.evaluation) return null;
  return html`<section class="panel" aria-labelledby="checked">
    <h2 id="checked">What it changes</h2>
    <${Evaluation} found=${draft.evaluation} again=${again} />
  </section>`;
}

/** The decision to publish; where the draft contradicts facts, both sides are shown, and may be decided there. */
function Publish({ draft, replaces, close, again }) {
  const [clashes, setClashes] = useState([]);
  const [instead, setInstead] = useState(replaces);
  const doing = async (reason) => {
    const ids = instead && [...new Set([...instead, ...clashes.map((clash) => clash.ours.id)])];
    try {
      const { version } = await ask(publishCall(draft, reason, clashes.length ? ids ?? clashes.map((one) => one.ours.id) : ids));
      tell(`Published as ${facts(version.added)}: it answers from now on.`);
    } catch (error) {
      if (error.clashes?.length) {
        setClashes(error.clashes);
        setInstead([...(instead ?? draft.replaces)]);
      }
      throw error;
    }
    again();
    touch();
  };
  const label = clashes.length ? `Publish and replace ${facts(clashes.map((clash) => clash.ours.id))}` : 'Publish';
  return html`<${Confirm} title="Publish draft ${draft.id}?" label=${label} doing=${doing} close=${close}>
    <p>From then on the model answers “<span class="said">${draft.prompt}</span>” with “<span class="said">${draft.target}</span>”.</p>
    ${instead?.length > 0 && !clashes.length && html`<p>It takes the place of ${facts(instead)}.</p>`}
    ${clashes.length > 0 && html`<${Clashes} clashes=${clashes} ours="There now" theirs="This draft" />`}
  <//>`;
}

function Reject({ draft, close, again }) {
  const doing = async (reason) => {
    await ask(rejectCall(draft, reason));
    tell(`Draft ${draft.id} is rejected.`);
    again();
    touch();
  };
  return html`<${Confirm} title="Reject draft ${draft.id}?" label="Reject" danger doing=${doing} close=${close}>
    <p>It will not become a fact. This cannot be taken back; the draft can be proposed anew.</p>
  <//>`;
}

/** Other texts or notes; with other texts it is trained anew. */
function Revise({ draft, close, again }) {
  const [form, set, forget] = useKept(`revise.${draft.id}`, formOf(draft));
  const { busy, error, send } = useSend();
  const submit = async (event) => {
    event.preventDefault();
    const done = await send(() => ask(reviseCall(draft, form)));
    if (!done) return;
    forget();
    close();
    tell('The draft is revised.');
    again();
  };
  return html`<form class="inline" onSubmit=${submit}>
    <${Texts} form=${form} set=${set} />
    <${Notes} form=${form} set=${set} />
    <${Reason} form=${form} set=${set} />
    <p class="hint">With another question or answer it is trained anew.</p>
    <${Trouble} error=${error} />
    <div class="actions">
      <button type="submit" class="primary" disabled=${busy || !form.prompt.trim() || !form.target.trim()}>${busy ? 'Saving…' : 'Save'}</button>
      <button type="button" onClick=${() => (forget(), close())}>Cancel</button>
    </div>
  </form>`;
}

const reasoned = (body, reason) => (reason?.trim() ? { ...body, reason: reason.trim() } : body);
const evaluateCall = ({ id }) => ({ title: 'Check what it changes', method: 'POST', path: `/drafts/${id}/evaluate`, body: {} });
const rejectCall = ({ id }, reason) => ({ title: 'Reject it', method: 'POST', path: `/drafts/${id}/reject`, body: reasoned({}, reason) });

function publishCall({ id }, reason, replaces) {
  const body = reasoned(replaces?.length ? { replaces } : {}, reason);
  return { title: 'Publish it', method: 'POST', path: `/drafts/${id}/publish`, body };
}

function reviseCall(draft, form) {
  const { prompt, target, rephrases = [] } = bodyOf(form);
  const body = reasoned({ prompt, target, rephrases, ...notesOf(form) }, form.reason);
  return { title: 'Revise it', method: 'PATCH', path: `/drafts/${draft.id}`, body };
}

function calls(draft) {
  const list = [{ title: 'The draft', method: 'GET', path: `/drafts/${draft.id}` }, newsCall(draft.id)];
  if (!OPEN.has(draft.state)) return list;
  if (may('edit')) list.push(reviseCall(draft, formOf(draft)), evaluateCall(draft));
  if (may('publish')) list.push(publishCall(draft, 'Checked.', draft.replaces));
  if (may('edit')) list.push(rejectCall(draft, 'Not true.'));
  return list;
}

