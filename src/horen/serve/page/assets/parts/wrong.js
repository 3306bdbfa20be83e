// A wrong answer, reported with the right one: it becomes a draft.
import { ask } from '../lib/api.js';
import { html } from '../lib/kit.js';
import { useKept, useSend } from '../lib/loading.js';
import { to } from '../lib/places.js';
import { go } from '../lib/places.js';
import { lines } from '../lib/words.js';
import { Dialog } from './dialog.js';
import { Area, Line } from './fields.js';
import { tell, Trouble } from './trouble.js';

/** The call that reports it. */
export function feedbackCall({ question, answer, right, source, rephrases, reason }) {
  const body = { prompt: question, wrong: answer, right };
  if (source.trim()) body.source = source.trim();
  if (lines(rephrases).length) body.rephrases = lines(rephrases);
  if (reason.trim()) body.reason = reason.trim();
  return { title: 'Report a wrong answer', method: 'POST', path: '/feedback', body };
}

const EMPTY = { right: '', source: '', rephrases: '', reason: '' };

/** @param {{question: string, answer: string, close: () => void}} given */
export function Wrong({ question, answer, close }) {
  const [form, set, forget] = useKept(`wrong.${question}`, EMPTY);
  const { busy, error, send } = useSend();
  const submit = async (event) => {
    event.preventDefault();
    const found = await send(() => ask(feedbackCall({ ...form, right: form.right.trim(), question, answer })));
    if (!found) return;
    forget();
    close();
    const { id } = found.draft;
    tell(`Thank you: it is draft ${id}.`, { label: 'Look at it', act: () => go('drafts', id) });
  };
  return html`<${Dialog} title="This answer is wrong" close=${close}>
    <form onSubmit=${submit}>
      <dl class="pairs">
        <div><dt>Asked</dt><dd class="said">${question}</dd></div>
        <div><dt>Answered</dt><dd class="said">${answer}</dd></div>
      </dl>
      <${Area} label="Right answer" required rows=${2} value=${form.right} set=${(right) => set({ right })}
        hint="As short as the model should say it." />
      <${Line} label="Source" optional value=${form.source} set=${(source) => set({ source })}
        hint="Where the right answer is from, a link for instance." />
      <${Area} label="Other ways to ask" optional rows=${2} value=${form.rephrases} set=${(rephrases) => set({ rephrases })}
        hint="One a line." />
      <${Area} label="Note" optional rows=${2} value=${form.reason} set=${(reason) => set({ reason })} />
      <p class="hint">It becomes a <a href=${to('drafts')} onClick=${close}>draft</a>, and changes nothing before somebody publishes it.</p>
      <${Trouble} error=${error} />
      <div class="actions">
        <button type="submit" class="primary" disabled=${busy || !form.right.trim()}>${busy ? 'Sending…' : 'Send'}</button>
        <button type="button" onClick=${close}>Cancel</button>
      </div>
    </form>
  <//>`;
}
