// What the page is written with: Preact, htm and signals, under one name each.
import { h, render, Fragment } from '../vendor/preact.js';
import htm from '../vendor/htm.js';

export { render, Fragment };
export { useEffect, useId, useLayoutEffect, useRef, useState } from '../vendor/hooks.js';
export { batch, computed, effect, signal } from '../vendor/signals.js';

/** Makes elements of a template. What is put into it is text, and never read as HTML. */
export const html = htm.bind(h);
