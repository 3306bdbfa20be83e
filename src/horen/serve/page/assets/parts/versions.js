// Versions of the store as a list: what happened, who did it, when and why.
import { html } from '../lib/kit.js';
import { happened } from '../lib/words.js';
import { Badge, Moment } from './small.js';

/**
 * @param {{versions: object[], actions?: (version: object) => any, lead?: (version: object) => any}} given what stands
 *   behind each version, and before it
 */
export function Versions({ versions, actions, lead }) {
  return html`<ol class="versions">
    ${versions.map(
      (version) =>
        html`<li key=${version.number}>
          ${lead?.(version)}
          <div class="what">
            <p>
              <strong>${happened(version)}</strong> ${version.tags.map((tag) => html`<${Badge} key=${tag} tone="accent">${tag}<//> `)}
            </p>
            ${version.by.reason && html`<p class="said">“${version.by.reason}”</p>`}
            <p class="hint">
              Version ${version.number} · <span class="said">${version.by.actor}</span> · <${Moment} at=${version.at} />
            </p>
          </div>
          ${actions && html`<div class="actions">${actions(version)}</div>`}
        </li>`,
    )}
  </ol>`;
}
