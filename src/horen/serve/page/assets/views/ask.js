// Ask: a question, answered with the facts and without, and why.
import { answerCall, asked, begin, running, setsCall, sides, stop, why, whyCall } from '../lib/asking.js';
import { html, useEffect, useState } from '../lib/kit.js';
import { useKept, useRead } from '../lib/loading.js';
import { become } from '../lib/places.js';
import { may } from '../lib/session.js';
import { score, short } from '../lib/words.js';
import { Calls } from '../parts/calls.js';
import { Area, Switch, Tabs } from '../parts/fields.js';
import { Scores } from '../parts/scores.js';
import { Badge } from '../parts/small.js';
import { Trouble, Waiting } from '../parts/trouble.js';
import { feedbackCall, Wrong } from '../parts/wrong.js';

const MODES = [
  ['chat', 'Chat'],
  ['plain', 'Plain text'],
];

export function Ask({ query }) {
  const [form, set] = useKept('ask', { question: '', mode: 'chat' });
  const [without, setWithout] = useState(asked.value?.without ?? []);
  const [withoutSets, setWithoutSets] = useState(asked.value?.withoutSets ?? []);
  const [wrong, setWrong] = useState(false);
  useEffect(() => {
    if (!query.q) return;
    set({ question: query.q });
    become('ask');
  }, [query.q]);
  const question = form.question.trim();
  const given = { question, chat: form.mode === 'chat', without, withoutSets };
  const other = !asked.value || asked.value.question !== question;
  const send = (event) => {
    event?.preventDefault();
    if (!question) return;
    const next = other ? { ...given, without: [] } : given;
    if (other) setWithout([]);
    begin(next);
  };
  const toggle = (id) => setWithout(without.includes(id) ? without.filter((each) => each !== id) : [...without, id]);
  const shown = asked.value;
  const same = shown && JSON.stringify({ ...shown }) === JSON.stringify(given);
  return html`<form class="panel ask" onSubmit=${send}>
      <${Area} label="Question" required rows=${2} value=${form.question} set=${(next) => set({ question: next })} />
      <div class="bar">
        <${Tabs} label="How it is asked" value=${form.mode} set=${(mode) => set({ mode })} options=${MODES} />
        <span class="hint grow mode">
          ${form.mode === 'chat' ? 'As a message in a conversation.' : 'As the beginning of a text that goes on.'}
        </span>
        ${running.value && html`<button type="button" onClick=${stop}>Stop</button>`}
        <button type="submit" class="primary" disabled=${!question}>${shown && !other ? 'Ask again' : 'Ask'}</button>
      </div>
      <${SetSwitches} off=${withoutSets} change=${setWithoutSets} />
    </form>
    ${sides.value && html`<${Answers} report=${() => setWrong(true)} />`}
    ${shown && html`<${Why} without=${without} toggle=${toggle} again=${!same && !other ? send : null} />`}
    <${Calls} calls=${calls(shown ?? given)} />
    ${wrong && html`<${Wrong} question=${shown.question} answer=${sides.value.on.text.trim()} close=${() => setWrong(false)} />`}`;
}

function calls(given) {
  const known = given.question ? given : { ...given, question: 'Who leads Fennick Robotics?' };
  const list = [answerCall(known, true), answerCall(known, false), whyCall(known)];
  if (may('edit')) {
    const answer = sides.value?.on.text.trim() || 'The wrong answer';
    list.push(feedbackCall({ question: known.question, answer, right: 'The right answer', source: '', rephrases: '', reason: '' }));
  }
  return list;
}

/** Sets that shall not answer this question. */
function SetSwitches({ off, change }) {
  const { data } = useRead(setsCall());
  const sets = (data?.sets ?? []).filter((set) => set.on && set.edits > 0);
  if (!sets.length) return null;
  const toggle = (name) => change(off.includes(name) ? off.filter((each) => each !== name) : [...off, name]);
  return html`<div class="bar" role="group" aria-label="Sets for this question">
    <span class="label">Sets for this question</span>
    ${sets.map(
      ({ name, edits }) =>
        html`<${Switch} key=${name} label="Use set ${name} for this question" value=${!off.includes(name)} set=${() => toggle(name)}>
          <span class="said">${name}</span> <span class="hint">${edits}</span>
        <//>`,
    )}
  </div>`;
}

function Answers({ report }) {
  const { on, off } = sides.value;
  const both = on.state === 'done' && off.state === 'done' && on.text && on.text === off.text;
  return html`<section class="answers" aria-label="Answers">
    <${Side} name="With the facts" side=${on} main>
      ${on.fired ? html`<${Badge} tone="good">Fact ${on.fired.edit} · ${score(on.fired.score)}<//>` : on.state === 'done' && html`<${Badge}>no fact answered<//>`}
    <//>
    <${Side} name="Without the facts" side=${off}>${both && html`<${Badge}>the same answer<//>`}<//>
    ${on.state === 'done' &&
    on.text.trim() &&
    html`<p class="after">
      ${may('edit')
        ? html`<button type="button" onClick=${report}>This answer is wrong…</button>`
        : html`<span class="hint">To report a wrong answer, your key needs the right “edit”.</span>`}
    </p>`}
  </section>`;
}

function Side({ name, side, main, children }) {
  const busy = side.state === 'waiting' || side.state === 'running';
  return html`<article class="panel side ${main ? 'main' : ''}">
    <header><h2>${name}</h2>${children}</header>
    <div class="answer said" aria-live="polite" aria-busy=${busy ? 'true' : 'false'}>
      ${side.state === 'waiting' ? html`<span class="hint">Waiting for the model…</span>` : side.text.trim()}
      ${side.state === 'running' && html`<span class="caret" aria-hidden="true"></span>`}
      ${side.state === 'done' && !side.text.trim() && html`<span class="hint">The answer is empty.</span>`}
    </div>
    <footer class="hint">
      ${side.finish === 'length' && 'Cut off where it is long.'} ${side.finish === 'stopped' && 'Stopped.'}
    </footer>
    <${Trouble} error=${side.error} />
  </article>`;
}

/** Rows of the nearest facts, and those that are left out and so no longer told. */
const known = new Map();
function rows({ data, without }) {
  const near = data.nearest.map((one) => {
    const row = { id: one.edit_id, prompt: one.prompt, target: one.target, score: one.score, asks: one.asks };
    known.set(one.edit_id, row);
    return { ...row, fires: data.fired && one.edit_id === data.edit_id, out: without.includes(one.edit_id) };
  });
  const told = new Set(near.map((row) => row.id));
  const out = without.filter((id) => !told.has(id) && known.has(id));
  return [...near, ...out.map((id) => ({ ...known.get(id), fires: false, out: true }))];
}

function Why({ without, toggle, again }) {
  const found = why.value;
  return html`<section class="panel" aria-labelledby="why">
    <header class="bar">
      <h2 id="why" class="grow">Why</h2>
      ${again && html`<button type="button" class="primary" onClick=${again}>Ask again</button>`}
    </header>
    ${!found && html`<${Waiting} rows=${3} what="Looking which facts are near…" />`}
    ${found?.error && html`<${Trouble} error=${found.error} />`}
    ${found?.data && html`<${Told} data=${found.data} list=${rows({ data: found.data, without })} toggle=${toggle} />`}
  </section>`;
}

function Told({ data, list, toggle }) {
  if (!list.length) return html`<p>No fact is stored that could answer.</p>`;
  const first = data.nearest[0];
  let words = 'No fact may answer this question.';
  if (data.fired) words = `Fact ${data.edit_id} answers: its score, ${score(data.score)}, is above the threshold.`;
  else if (first && first.score <= data.threshold) {
    words = `No fact answers: the nearest, “${short(first.prompt)}”, has the score ${score(first.score)}.`;
  } else if (first) words = 'No fact answers: the nearest one does not lead the next by enough, or it was left out.';
  return html`<p class="lead">${words}</p>
    <${Scores} rows=${list} threshold=${data.threshold} toggle=${toggle} />`;
}
