// Requests to the server. Those about masks go one after the other, so that patches arrive in order.

export class Refused extends Error {}

const STOPPED = 'The viewer has stopped. Start tpseg annotate with --resume and open the address that it prints.';

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: 'same-origin', redirect: 'error', ...options });
  } catch {
    throw new Refused(STOPPED);
  }
  if (response.ok) return response;
  const line = (await response.text()).trim();
  throw new Refused(line || `The server answered ${response.status}.`);
}

export function address(path, values) {
  return `${path}?${new URLSearchParams(values)}`;
}

export async function get(path, values = {}) {
  return (await ask(address(path, values))).json();
}

export async function post(path, body = {}) {
  const headers = { 'content-type': 'application/json' };
  return (await ask(path, { method: 'POST', headers, body: JSON.stringify(body) })).json();
}

export async function picture(url) {
  return createImageBitmap(await (await ask(url)).blob());
}

let last = Promise.resolve();

export function inTurn(work) {
  const result = last.then(work);
  last = result.catch(() => undefined);
  return result;
}
