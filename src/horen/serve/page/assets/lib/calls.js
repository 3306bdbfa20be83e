// Calls of the service as texts that people can copy: for a shell, and for Python.

/**
 * A call of the service.
 * @typedef {{title: string, method: string, path: string, query?: object, body?: object, stream?: boolean}} Call
 */

/** The address below which the service is, without a slash at its end. */
export const root = new URL('.', document.baseURI).href.replace(/\/$/, '');

/** What of a query is given, as a string that follows a path. */
export function queried(query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : '';
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A call for a shell. @param {Call} call @param {boolean} keyed whether a key goes with it */
export function curl(call, keyed) {
  const lines = [`curl ${quoted(root + call.path + queried(call.query))}`];
  if (call.stream) lines[0] = lines[0].replace('curl', 'curl --no-buffer');
  if (call.method !== 'GET' && !(call.method === 'POST' && call.body)) lines.push(`--request ${call.method}`);
  if (keyed) lines.push('--header "Authorization: Bearer $HOREN_KEY"');
  if (call.body) lines.push("--header 'Content-Type: application/json'", `--data ${quoted(JSON.stringify(call.body))}`);
  return lines.join(' \\\n  ');
}

/** A value as Python writes it. */
export function literal(value, indent = '') {
  if (value === null || value === undefined) return 'None';
  if (value === true) return 'True';
  if (value === false) return 'False';
  if (typeof value !== 'object') return JSON.stringify(value);
  const list = Array.isArray(value);
  const parts = list
    ? value.map((each) => literal(each, `${indent}    `))
    : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each, `${indent}    `)}`);
  const [open, close] = list ? '[]' : '{}';
  const short = open + parts.join(', ') + close;
  if (short.length + indent.length <= 88 && !short.includes('\n')) return short;
  return `${open}\n${parts.map((part) => `${indent}    ${part},\n`).join('')}${indent}${close}`;
}

/** A call for Python. @param {Call} call @param {boolean} keyed whether a key goes with it */
export function python(call, keyed) {
  return call.path.startsWith('/v1/') ? withOpenAI(call, keyed) : withHttpx(call, keyed);
}

function withHttpx(call, keyed) {
  const given = [JSON.stringify(root + call.path)];
  if (call.query && queried(call.query)) {
    const query = Object.entries(call.query).filter(([, value]) => value !== undefined && value !== null && value !== '');
    given.push(`params=${literal(Object.fromEntries(query), '    ')}`);
  }
  if (keyed) given.push(`headers={"Authorization": "Bearer " + os.environ["HOREN_KEY"]}`);
  if (call.body) given.push(`json=${literal(call.body, '    ')}`);
  const inner = given.map((each) => `    ${each},\n`).join('');
  const head = keyed ? 'import os\n\nimport httpx\n\n' : 'import httpx\n\n';
  if (call.stream) {
    return (
      `${head}with httpx.stream(\n    "${call.method}",\n${inner}    timeout=None,\n) as answer:\n` +
      '    for line in answer.iter_lines():\n        print(line)\n'
    );
  }
  return `${head}answer = httpx.request(\n    "${call.method}",\n${inner})\nanswer.raise_for_status()\nprint(answer.json())\n`;
}

function withOpenAI(call, keyed) {
  const { horen, stream, ...rest } = call.body;
  const given = Object.entries(rest).map(([name, value]) => `${name}=${literal(value, '    ')}`);
  if (horen) given.push(`extra_body=${literal({ horen }, '    ')}`);
  if (stream) given.push('stream=True');
  const verb = call.path === '/v1/completions' ? 'completions' : 'chat.completions';
  const text = call.path === '/v1/completions' ? 'choices[0].text' : 'choices[0].delta.content or ""';
  const key = keyed ? 'os.environ["HOREN_KEY"]' : '"none"';
  return (
    `${keyed ? 'import os\n\n' : ''}import openai\n\n` +
    `client = openai.OpenAI(base_url=${JSON.stringify(`${root}/v1`)}, api_key=${key})\n` +
    `answer = client.${verb}.create(\n${given.map((each) => `    ${each},\n`).join('')})\n` +
    `for part in answer:\n    print(part.${text}, end="")\n`
  );
}
