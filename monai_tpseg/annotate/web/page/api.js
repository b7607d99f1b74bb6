// Requests to the server. Requests about masks are sent one at a time, so that patches arrive in order.

export class Refused extends Error {}

// The response is missing or incomplete, so it is unknown whether the request was carried out.
export class Lost extends Error {}

// The response is no longer needed.
export class Dropped extends Error {}

const STOPPED = 'The viewer does not answer. If it was stopped, start tpseg annotate with --resume and open its address.';
const AGAIN = 400; // delay before a read-only request is repeated, in ms

async function ask(path, options, read) {
  let response;
  let content;
  try {
    response = await fetch(path, { credentials: 'same-origin', redirect: 'error', ...options });
    content = await (response.ok ? read(response) : response.text());
  } catch {
    throw options.signal?.aborted ? new Dropped() : new Lost(STOPPED);
  }
  if (response.ok) return content;
  throw new Refused(content.trim() || `The server answered ${response.status}.`);
}

// read-only requests may be repeated
async function look(path, read, options = {}) {
  try {
    return await ask(path, options, read);
  } catch (error) {
    if (!(error instanceof Lost)) throw error;
    await new Promise((done) => { setTimeout(done, AGAIN); });
    return ask(path, options, read);
  }
}

const json = (response) => response.json();

export function address(path, values) {
  return `${path}?${new URLSearchParams(values)}`;
}

export function get(path, values = {}) {
  return look(address(path, values), json);
}

export function post(path, body = {}) {
  const headers = { 'content-type': 'application/json' };
  return ask(path, { method: 'POST', headers, body: JSON.stringify(body) }, json);
}

export function picture(url, signal) {
  return look(url, async (response) => createImageBitmap(await response.blob()), { signal });
}

let last = Promise.resolve();

export function inTurn(work) {
  const result = last.then(work);
  last = result.catch(() => undefined);
  return result;
}
