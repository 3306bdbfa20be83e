// How near a question came to facts: a table whose bars have one scale, with the threshold drawn through them.
import { html } from '../lib/kit.js';
import { ASKS, score } from '../lib/words.js';
import { Switch } from './fields.js';
import { Badge, FactLink } from './small.js';
import { may } from '../lib/session.js';

const WIDTH = 200;
const ROW = 44;
const AXIS = 22;

/** Least and most of what is drawn: 0 to 1, or further where scores are. */
function scale(rows, threshold) {
  const all = [threshold, ...rows.map((row) => row.score)].filter((value) => Number.isFinite(value));
  const least = Math.min(0, ...all);
  const most = Math.max(1, ...all);
  return { least, most, x: (value) => ((value - least) / (most - least)) * WIDTH };
}

/** The axis above the bars, with the threshold's name. */
function Axis({ of, threshold }) {
  const at = of.x(threshold);
  return html`<svg class="axis" viewBox="0 0 ${WIDTH} ${AXIS}" aria-hidden="true">
    <text x="0" y="8">${score(of.least)}</text>
    <text x=${WIDTH} y="8" text-anchor="end">${score(of.most)}</text>
    <text class="at" x=${at} y="8" text-anchor="middle">${score(threshold)}</text>
    <path class="tau" d="M${at} 11V${AXIS}" />
  </svg>`;
}

function Bar({ of, threshold, row }) {
  const zero = of.x(0);
  const end = of.x(row.score);
  const tone = row.fires ? 'fires' : row.score > threshold ? 'over' : '';
  return html`<svg class="score-bar" viewBox="0 0 ${WIDTH} ${ROW}" preserveAspectRatio="none" aria-hidden="true">
    <rect class="ground" x="0" y="17" width=${WIDTH} height="10" rx="2" />
    <rect
      class="reach ${tone}"
      x=${Math.min(zero, end)}
      y="17"
      width=${Math.max(1, Math.abs(end - zero))}
      height="10"
      rx="2"
    />
    <path class="tau" d="M${of.x(threshold)} 0V${ROW}" />
  </svg>`;
}

/**
 * @param {{rows: {id: number, prompt: string, target: string, score: number, asks: string|null, fires: boolean,
 *   out: boolean}[], threshold: number, toggle: (id: number) => void}} given
 */
export function Scores({ rows, threshold, toggle }) {
  const of = scale(rows, threshold);
  return html`<table class="scores">
    <caption>
      Facts that came nearest to the question. A fact answers only if it is the nearest and its score is above the threshold
      of ${score(threshold)}.
    </caption>
    <thead>
      <tr>
        <th scope="col">Use</th>
        <th scope="col">Fact</th>
        <th scope="col" class="plot"><span class="aside">Score, drawn</span><${Axis} of=${of} threshold=${threshold} /></th>
        <th scope="col" class="number">Score</th>
      </tr>
    </thead>
    <tbody>
      ${rows.map(
        (row) =>
          html`<tr key=${row.id} class=${row.out ? 'out' : ''}>
            <td><${Switch} label="Use fact ${row.id} for this question" value=${!row.out} set=${() => toggle(row.id)} /></td>
            <td>
              <p class="said">${row.prompt} <span class="arrow" aria-label="answers">→</span> <strong>${row.target}</strong></p>
              <p class="hint">
                ${may('read') ? html`<${FactLink} id=${row.id} />` : `Fact ${row.id}`}${row.asks && ` · the question ${ASKS[row.asks]}`}
                ${row.fires && html` <${Badge} tone="good">answers<//>`} ${row.out && html` <${Badge}>left out<//>`}
              </p>
            </td>
            <td class="plot"><${Bar} of=${of} threshold=${threshold} row=${row} /></td>
            <td class="number">
              ${score(row.score)}
              <span class="aside">${row.score > threshold ? ', above the threshold' : ', not above the threshold'}</span>
            </td>
          </tr>`,
      )}
    </tbody>
  </table>`;
}
