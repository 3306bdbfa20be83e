// Small things that many views show.
import { html } from '../lib/kit.js';
import { to } from '../lib/places.js';
import { exactly, fact, when } from '../lib/words.js';

/** A moment. */
export const Moment = ({ at }) => (at ? html`<time datetime=${at} title=${exactly(at)}>${when(at)}</time>` : '–');

/** A link to a fact. */
export const FactLink = ({ id }) => html`<a href=${to('facts', id)}>${fact(id)}</a>`;

/** A word of how something is. */
export const Badge = ({ tone = '', children }) => html`<span class="badge ${tone}">${children}</span>`;

/** Where an answer is from: a link where it is one of the web, else its words. */
export function Source({ text }) {
  if (!text) return '–';
  let url = null;
  try {
    url = new URL(text);
  } catch {
    return html`<span class="said">${text}</span>`;
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return html`<span class="said">${text}</span>`;
  return html`<a class="said" href=${url.href} target="_blank" rel="noopener noreferrer">${text}</a>`;
}

/** Facts of something as pairs of name and value; empty ones are left out. */
export function Pairs({ of }) {
  return html`<dl class="pairs">
    ${of
      .filter(([, value]) => value !== null && value !== undefined && value !== '' && value !== false)
      .map(
        ([name, value]) =>
          html`<div key=${name}>
            <dt>${name}</dt>
            <dd>${value}</dd>
          </div>`,
      )}
  </dl>`;
}

/** Tags, each a link to the facts that have it. */
export function Tags({ tags, set }) {
  if (!tags.length && !set) return null;
  return html`<span class="tags">
    ${set && html`<a class="tag set" href=${to('facts', { set })}>${set}</a>`}
    ${tags.map((tag) => html`<a class="tag" key=${tag} href=${to('facts', { tag })}>${tag}</a>`)}
  </span>`;
}

/** A wide table, which scrolls by itself where there is no room. */
export function Wide({ label, children }) {
  return html`<div class="wide" role="region" aria-label=${label} tabindex="0">${children}</div>`;
}

/** Ways to the parts of a list before and behind this one. */
export function Paging({ newer, older }) {
  if (!newer && !older) return null;
  return html`<nav class="paging" aria-label="Pages">
    <button type="button" disabled=${!newer} onClick=${newer}>← Newer</button>
    <button type="button" disabled=${!older} onClick=${older}>Older →</button>
  </nav>`;
}

/** What is shown where there is nothing. */
export const Nothing = ({ children }) => html`<div class="nothing">${children}</div>`;
