// The calls behind a view, to be copied: what the page does, a program can do too.
import { key } from '../lib/api.js';
import { curl, python } from '../lib/calls.js';
import { html, useRef, useState } from '../lib/kit.js';
import { Choice, Tabs } from './fields.js';
import { tell } from './trouble.js';

const WAYS = [
  ['curl', 'curl'],
  ['python', 'Python'],
];

/** @param {{calls: import('../lib/calls.js').Call[]}} given */
export function Calls({ calls }) {
  const [way, setWay] = useState('curl');
  const [which, setWhich] = useState('0');
  const code = useRef(null);
  const call = calls[Number(which)] ?? calls[0];
  if (!call) return null;
  const text = (way === 'curl' ? curl : python)(call, Boolean(key.value));
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      tell('Copied.');
    } catch {
      getSelection().selectAllChildren(code.current);
      tell('The text is selected: copy it with Ctrl+C.');
    }
  };
  return html`<details class="calls">
    <summary>${calls.length > 1 ? 'The calls behind this' : 'The call behind this'}</summary>
    <div class="calls-body">
      <div class="bar">
        ${calls.length > 1 &&
        html`<${Choice}
          label="Call"
          value=${which}
          set=${setWhich}
          options=${calls.map((each, number) => [String(number), each.title])}
        />`}
        <${Tabs} label="Language" value=${way} set=${setWay} options=${WAYS} />
        <button type="button" onClick=${copy}>Copy</button>
      </div>
      <pre tabindex="0" aria-label="${call.title}, for ${way === 'curl' ? 'a shell' : 'Python'}"><code ref=${code}>${text}</code></pre>
      ${key.value && html`<p class="hint">Your key is not in the text: put it into the environment as HOREN_KEY.</p>`}
    </div>
  </details>`;
}
