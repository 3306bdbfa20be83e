// What a draft would change, as tables: its own questions, its neighbours, questions that are asked often.
import { html } from '../lib/kit.js';
import { many } from '../lib/words.js';
import { Badge, FactLink, Wide } from './small.js';

const NOTHING = html`<span class="hint">(nothing)</span>`;
const CONTEXTS = { plain: 'as it stands', chat: 'in a chat', 'after text': 'after other text' };

/** @param {{found: object}} given the evaluation of a draft */
export function Evaluation({ found }) {
  const { summary, own, neighbours, prompts } = found;
  const good = summary.own_right === summary.own_asked;
  const calm = summary.disturbed === 0;
  return html`<div class="sums">
      <p class="sum ${good ? 'good' : 'warn'}">
        <strong>${summary.own_right} of ${summary.own_asked}</strong> own questions answered right
      </p>
      <p class="sum ${calm ? 'good' : 'warn'}">
        ${summary.asked
          ? html`<strong>${summary.disturbed} of ${summary.asked}</strong> other questions answered otherwise`
          : html`<strong>No</strong> other questions to ask`}
      </p>
    </div>
    <h3>Its own questions</h3>
    <${Own} lines=${own} />
    <h3>Facts near to it</h3>
    ${neighbours.length ? html`<${Others} name="Facts near to it" lines=${neighbours} />` : html`<p class="hint">No other fact is near.</p>`}
    <h3>Questions that are asked often</h3>
    ${prompts.length
      ? html`<${Others} name="Questions that are asked often" lines=${prompts} />`
      : html`<p class="hint">None are kept here.</p>`}
    <p class="hint after">Asked upon version ${found.version}.</p>`;
}

function Own({ lines }) {
  return html`<${Wide} label="Its own questions">
    <table class="list">
      <caption class="aside">${many(lines.length, 'question')} of the draft itself, before and after</caption>
      <thead>
        <tr>
          <th scope="col">Question</th>
          <th scope="col">Asked</th>
          <th scope="col">Before</th>
          <th scope="col">After</th>
          <th scope="col">Right</th>
        </tr>
      </thead>
      <tbody>
        ${lines.map(
          (line, number) =>
            html`<tr key=${number}>
              <td class="said">${line.prompt}</td>
              <td class="nowrap">${CONTEXTS[line.context] ?? line.context}</td>
              <td class="said faint text">${line.before.trim() || NOTHING}</td>
              <td class="said text">${line.answer.trim() || NOTHING}</td>
              <td><${Badge} tone=${line.correct ? 'good' : 'bad'}>${line.correct ? '✓ right' : '✗ not right'}<//></td>
            </tr>`,
        )}
      </tbody>
    </table>
  <//>`;
}

function Others({ name, lines }) {
  return html`<${Wide} label=${name}>
    <table class="list">
      <caption class="aside">${name}: answers before and after</caption>
      <thead>
        <tr>
          <th scope="col">Question</th>
          <th scope="col">Before</th>
          <th scope="col">After</th>
          <th scope="col">Disturbed</th>
        </tr>
      </thead>
      <tbody>
        ${lines.map(
          (line, number) =>
            html`<tr key=${number}>
              <td>
                <span class="said">${line.prompt}</span>
                ${line.edit && html`<p class="hint"><${FactLink} id=${line.edit} />${line.why === 'subject' ? ', of the same subject' : ''}</p>`}
              </td>
              <td class="said faint text">${line.before.trim() || NOTHING}</td>
              <td class="said text">${line.changed ? line.answer.trim() || NOTHING : html`<span class="faint">the same</span>`}</td>
              <td>
                <${Badge} tone=${line.changed || line.fires ? 'bad' : 'good'}>${disturbed(line)}<//>
              </td>
            </tr>`,
        )}
      </tbody>
    </table>
  <//>`;
}

function disturbed(line) {
  if (line.fires) return '✗ the draft answers it';
  return line.changed ? '✗ other answer' : '✓ no';
}
