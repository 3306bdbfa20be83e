// Facts that cannot both answer, each with both sides.
import { html } from '../lib/kit.js';
import { to } from '../lib/places.js';

function Side({ name, one }) {
  const link = one.state === 'published' || one.state === 'retired' ? to('facts', one.id) : to('drafts', one.id);
  return html`<div class="side">
    <p class="label">${name}</p>
    <p class="said">${one.prompt}</p>
    <p class="said"><strong>${one.target}</strong></p>
    <p class="hint">
      ${one.id && html`<a href=${link}>No. ${one.id}</a>`}${one.author && html` · <span class="said">${one.author}</span>`}
      ${one.facts?.source && html` · <span class="said">${one.facts.source}</span>`}
    </p>
  </div>`;
}

/** @param {{clashes: {wording?: string, ours: object, theirs: object}[], ours: string, theirs: string}} given */
export function Clashes({ clashes, ours, theirs }) {
  return html`<ul class="clashes">
    ${clashes.map(
      (clash) =>
        html`<li key=${`${clash.ours.id} ${clash.theirs.id}`}>
          ${clash.wording && html`<p class="hint">Both answer “<span class="said">${clash.wording}</span>”.</p>`}
          <div class="sides"><${Side} name=${ours} one=${clash.ours} /><${Side} name=${theirs} one=${clash.theirs} /></div>
        </li>`,
    )}
  </ul>`;
}
