// Fields of forms: a label, a hint, and what is at fault, which belong to the field for screen readers too.
import { html, useId } from '../lib/kit.js';

function Field({ label, hint, optional, fault, children }) {
  const id = useId();
  const told = [hint && `${id}-hint`, fault && `${id}-fault`].filter(Boolean).join(' ') || undefined;
  return html`<div class="field">
    <label for=${id}>${label}${optional && html` <span class="aside">(optional)</span>`}</label>
    ${children({ id, 'aria-describedby': told, 'aria-invalid': fault ? 'true' : undefined })}
    ${hint && html`<p class="hint" id="${id}-hint">${hint}</p>`}
    ${fault && html`<p class="fault" id="${id}-fault">${fault}</p>`}
  </div>`;
}

/** A line of text. */
export function Line({ value, set, type = 'text', list, max = 200, required, ...field }) {
  return html`<${Field} ...${field}>
    ${(own) =>
      html`<input
        ...${own}
        type=${type}
        list=${list}
        value=${value}
        maxlength=${max}
        required=${required}
        autocomplete="off"
        onInput=${(event) => set(event.currentTarget.value)}
      />`}
  <//>`;
}

/** Lines of text; with Ctrl and Enter, or ⌘ and Enter, its form is sent. */
export function Area({ value, set, rows = 3, max = 16_000, required, ...field }) {
  const sent = (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit();
  };
  return html`<${Field} ...${field}>
    ${(own) =>
      html`<textarea
        ...${own}
        rows=${rows}
        maxlength=${max}
        required=${required}
        value=${value}
        onInput=${(event) => set(event.currentTarget.value)}
        onKeyDown=${sent}
      ></textarea>`}
  <//>`;
}

/** A choice of a few: pairs of value and label. */
export function Choice({ value, set, options, ...field }) {
  return html`<${Field} ...${field}>
    ${(own) =>
      html`<select ...${own} value=${value} onChange=${(event) => set(event.currentTarget.value)}>
        ${options.map(([each, label]) => html`<option key=${each} value=${each} selected=${each === value}>${label}</option>`)}
      </select>`}
  <//>`;
}

/** A box to tick. */
export function Tick({ label, hint, value, set, disabled }) {
  const id = useId();
  return html`<div class="tick">
    <input
      id=${id}
      type="checkbox"
      checked=${value}
      disabled=${disabled}
      aria-describedby=${hint ? `${id}-hint` : undefined}
      onChange=${(event) => set(event.currentTarget.checked)}
    />
    <div>
      <label for=${id}>${label}</label>
      ${hint && html`<p class="hint" id="${id}-hint">${hint}</p>`}
    </div>
  </div>`;
}

/** A switch: what is named is on or off. */
export function Switch({ label, value, set, disabled, busy, children }) {
  return html`<button
    type="button"
    role="switch"
    class="switch"
    aria-checked=${value ? 'true' : 'false'}
    aria-label=${label}
    aria-busy=${busy ? 'true' : undefined}
    disabled=${disabled}
    onClick=${() => set(!value)}
  >
    <span class="track" aria-hidden="true"></span>${children}
  </button>`;
}

/** One of two or three, shown beside one another: pairs of value and label. */
export function Tabs({ label, value, set, options }) {
  return html`<div class="tabs" role="group" aria-label=${label}>
    ${options.map(
      ([each, name]) =>
        html`<button type="button" key=${each} aria-pressed=${each === value ? 'true' : 'false'} onClick=${() => set(each)}>
          ${name}
        </button>`,
    )}
  </div>`;
}
