// Talking to the server: models, and answers as they are written.

const KEY = "taketurns.key";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

function headers() {
  const key = sessionStorage.getItem(KEY);
  return {
    "content-type": "application/json",
    ...(key ? { authorization: `Bearer ${key}` } : {}),
  };
}

export function keep(key) {
  sessionStorage.setItem(KEY, key);
}

async function failure(response) {
  const body = await response.json().catch(() => null);
  const said = body?.error?.message ?? `the server answered ${response.status}`;
  return new ApiError(said, response.status);
}

export async function models() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (!response.ok) throw await failure(response);
  return (await response.json()).data;
}

// Yields the choice of every chunk. Throws ApiError, also for an answer that breaks off.
export async function* answer(request, signal) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: headers(),
    body: JSON.stringify({ ...request, stream: true, return_token_ids: true }),
    signal,
  });
  if (!response.ok) throw await failure(response);
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, 500);
    if (chunk.choices.length) yield chunk.choices[0];
  }
  throw new ApiError("the connection broke off before the answer was whole", 0);
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
