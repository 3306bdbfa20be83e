// Questions and their answers, with the facts and without; they stay while one looks at other views.
import { ask, events } from './api.js';
import { signal } from './kit.js';
import { knowModel, may, model, room } from './session.js';

/**
 * One of two answers.
 * @typedef {{state: 'waiting'|'running'|'done'|'failed', text: string, fired: object|null, finish: string, error: Error|null}} Side
 */

/** Tokens that an answer has at most; of a small model it has half the room. */
const most = () => Math.min(200, Math.floor(room.value / 2) || 200);
const NEAREST = 6;

/** What was asked last: {question, chat, without, withoutSets}; null before the first. */
export const asked = signal(null);
/** @type {{value: {on: Side, off: Side}|null}} */
export const sides = signal(null);
/** Why: {data, error}; null as long as it is not known. */
export const why = signal(null);
export const running = signal(false);

let stopping = null;

/** The call that gets one of the answers. */
export function answerCall({ question, chat, without, withoutSets }, on) {
  const horen = {};
  if (!on) horen.edits = 'off';
  else {
    if (without.length) horen.without = without;
    if (withoutSets.length) horen.without_sets = withoutSets;
  }
  const body = { model: model.value, temperature: 0, max_tokens: most(), stream: true };
  if (chat) body.messages = [{ role: 'user', content: question }];
  else body.prompt = question;
  if (Object.keys(horen).length) body.horen = horen;
  const title = on ? 'Answer with the facts' : 'Answer without them';
  return { title, method: 'POST', path: chat ? '/v1/chat/completions' : '/v1/completions', body };
}

/** The call that says why. */
export function whyCall({ question, chat, without, withoutSets }) {
  const body = chat ? { messages: [{ role: 'user', content: question }] } : { prompt: question };
  body.nearest = NEAREST;
  const horen = {};
  if (without.length) horen.without = without;
  if (withoutSets.length) horen.without_sets = withoutSets;
  if (Object.keys(horen).length) body.horen = horen;
  return { title: 'Why', method: 'POST', path: '/explain', body };
}

/** Asks a question with the facts and without, and why. */
export async function begin(question) {
  stop();
  const own = new AbortController();
  stopping = own;
  asked.value = question;
  why.value = null;
  running.value = true;
  sides.value = { on: fresh(), off: fresh() };
  await Promise.all([answer('on', question, own), answer('off', question, own), explain(question, own)]);
  if (stopping === own) running.value = false;
}

/** Ends the answers that are coming. */
export function stop() {
  stopping?.abort();
  running.value = false;
}

const fresh = () => ({ state: 'waiting', text: '', fired: null, finish: '', error: null });

async function answer(side, question, own) {
  const set = (part) => {
    if (stopping === own) sides.value = { ...sides.value, [side]: { ...sides.value[side], ...part } };
  };
  try {
    await knowModel();
    for await (const event of events(answerCall(question, side === 'on'), { stop: own.signal })) {
      if (event.data === '[DONE]') break;
      const told = JSON.parse(event.data);
      if (told.error) throw Object.assign(new Error(told.error.message), { code: told.error.code });
      const [choice] = told.choices;
      if (!choice) continue;
      const now = sides.value[side];
      set({
        state: 'running',
        text: now.text + (choice.delta?.content ?? choice.text ?? ''),
        fired: choice.horen ?? now.fired,
        finish: choice.finish_reason ?? now.finish,
      });
    }
    set({ state: 'done' });
  } catch (error) {
    if (error.code === 'model_not_found') model.value = ''; // another one is served now
    if (error.code === 'stopped') set({ state: 'done', finish: 'stopped' });
    else set({ state: 'failed', error });
  }
}

async function explain(question, own) {
  try {
    const data = await ask(whyCall(question), { stop: own.signal });
    if (stopping === own) why.value = { data, error: null };
  } catch (error) {
    if (stopping === own && error.code !== 'stopped') why.value = { data: null, error };
  }
}

/** What can be switched off for a question: sets of the store, where one may see them. */
export const setsCall = () => (may('read') ? { title: 'Sets', method: 'GET', path: '/sets' } : null);
