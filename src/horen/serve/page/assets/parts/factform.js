// The form of a fact: what is asked, what is answered, and what is noted of it.
import { html, useId } from '../lib/kit.js';
import { useRead } from '../lib/loading.js';
import { may } from '../lib/session.js';
import { lines, words } from '../lib/words.js';
import { Area, Choice, Line } from './fields.js';

export const EMPTY = { prompt: '', target: '', rephrases: '', subject: '', source: '', tags: '', set: '', reason: '' };

/** A stored fact or a draft as the form has it. */
export const formOf = ({ prompt, target, rephrases, facts }) => ({
  prompt,
  target,
  rephrases: rephrases.join('\n'),
  subject: facts.subject ?? '',
  source: facts.source ?? '',
  tags: facts.tags.join(', '),
  set: facts.set ?? '',
  reason: '',
});

/** The form as the service takes a new fact. */
export function bodyOf(form) {
  const body = { prompt: form.prompt.trim(), target: form.target.trim() };
  if (lines(form.rephrases).length) body.rephrases = lines(form.rephrases);
  for (const name of ['subject', 'source', 'set', 'reason']) if (form[name].trim()) body[name] = form[name].trim();
  if (words(form.tags).length) body.tags = words(form.tags);
  return body;
}

/** What is noted of a fact, as the service takes it: what is empty is taken away. */
export function notesOf(form) {
  return {
    subject: form.subject.trim() || null,
    source: form.source.trim() || null,
    tags: words(form.tags),
    set: form.set || null,
  };
}

/** Question, answer and other ways to ask. */
export function Texts({ form, set }) {
  return html`<${Area} label="Question" required rows=${2} value=${form.prompt} set=${(prompt) => set({ prompt })}
      hint="As somebody would ask it, or the beginning of a sentence." />
    <${Area} label="Answer" required rows=${2} value=${form.target} set=${(target) => set({ target })}
      hint="As short as the model should say it." />
    <${Area} label="Other ways to ask" optional rows=${3} value=${form.rephrases} set=${(rephrases) => set({ rephrases })}
      hint="One a line. They make the fact answer more surely." />`;
}

/** Subject, source, tags and set. */
export function Notes({ form, set }) {
  const id = useId();
  const { data: facets } = useRead(may('read') ? { method: 'GET', path: '/facets' } : null);
  const { data: found } = useRead(may('read') ? { method: 'GET', path: '/sets' } : null);
  const sets = found?.sets.map(({ name, on }) => [name, on ? name : `${name} (switched off)`]) ?? [];
  if (form.set && !sets.some(([name]) => name === form.set)) sets.push([form.set, form.set]);
  return html`<div class="columns">
    <${Line} label="Subject" optional value=${form.subject} set=${(subject) => set({ subject })}
      hint="What the fact is about: its other facts are checked too." />
    <${Line} label="Source" optional value=${form.source} set=${(source) => set({ source })}
      hint="Where the answer is from, a link for instance." />
    <${Line} label="Tags" optional max=${2000} list="${id}-tags" value=${form.tags} set=${(tags) => set({ tags })}
      hint="Words to find it by, with commas between." />
    <${Choice} label="Set" optional value=${form.set} set=${(next) => set({ set: next })}
      options=${[['', 'None'], ...sets]} hint="Sets are switched on and off together." />
    <datalist id="${id}-tags">${Object.keys(facets?.tags ?? {}).map((tag) => html`<option key=${tag} value=${tag}></option>`)}</datalist>
  </div>`;
}

/** Why it is said. */
export const Reason = ({ form, set }) =>
  html`<${Area} label="Why" optional rows=${2} max=${2000} value=${form.reason} set=${(reason) => set({ reason })}
    hint="In your own words: kept in the history." />`;
