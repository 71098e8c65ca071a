// Requests to the server: models, and answers as streams.

const KEY = "taketurns.key";
const KEYLESS = "this server needs an API key";

export class ApiError extends Error {
  // `param` is the request's field that the server refused.
  constructor(message, status, param = null) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

let key = kept();

function kept() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null; // storage is off
  }
}

export function keep(given) {
  key = given;
  try {
    sessionStorage.setItem(KEY, given);
  } catch {
    // storage is off: the key is kept until the page is closed
  }
}

export const hasKey = () => Boolean(key);

function headers() {
  const sent = new Headers({ "content-type": "application/json" });
  try {
    if (key) sent.set("authorization", `Bearer ${key}`);
  } catch {
    throw new ApiError(KEYLESS, 401); // not valid in a header, so it cannot be the right key
  }
  return sent;
}

// Throws ApiError if the response is not OK.
async function request(address, options) {
  const sent = { ...options, headers: headers() };
  let response;
  try {
    response = await fetch(address, sent);
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw new ApiError("the server cannot be reached", 0);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  if (response.status === 401) return new ApiError(KEYLESS, 401);
  const body = await response.json().catch(() => null);
  const said = body?.error?.message ?? `the server answered ${response.status}`;
  return new ApiError(said, response.status, body?.error?.param ?? null);
}

export async function models() {
  const response = await request("/v1/models");
  return (await response.json()).data;
}

// The body of a request for an answer.
export const streamed = (asked) => ({ ...asked, stream: true });

// Yields the choice of every chunk. Throws ApiError, also for an incomplete answer.
export async function* answer(asked, signal) {
  const body = JSON.stringify(streamed(asked));
  const response = await request("/v1/chat/completions", { method: "POST", body, signal });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, 500);
    if (chunk.choices.length) yield chunk.choices[0];
  }
  throw new ApiError("the connection ended before the answer was complete", 0);
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}
