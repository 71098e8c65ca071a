// A request as other programs send it: curl in a POSIX shell, and OpenAI's client in Python.

const ARGUMENTS = new Set([ // of OpenAI's client; its other fields go into extra_body
  "model", "messages", "temperature", "top_p", "max_tokens", "seed", "stop", "presence_penalty",
  "frequency_penalty", "response_format", "stream",
]);
const WIDTH = 88;

// In a quoted here-document the shell replaces nothing, and no line of JSON is its end.
export function curl(body, origin, keyed) {
  const lines = [
    `curl -N '${origin}/v1/chat/completions'`,
    "-H 'Content-Type: application/json'",
    ...(keyed ? ['-H "Authorization: Bearer $TAKETURNS_API_KEY"'] : []),
    "--data-binary @- <<'JSON'",
  ];
  return `${lines.join(" \\\n  ")}\n${JSON.stringify(body, null, 2)}\nJSON\n`;
}

export function python(body, origin, keyed) {
  const plain = JSON.parse(JSON.stringify(body)); // without the fields that are not set
  const fields = Object.entries(plain).filter(([name]) => ARGUMENTS.has(name));
  const others = Object.entries(plain).filter(([name]) => !ARGUMENTS.has(name));
  if (others.length) fields.push(["extra_body", Object.fromEntries(others)]);
  return [
    ...(keyed ? ["import os", ""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${origin}/v1", api_key=${keyed ? 'os.environ["TAKETURNS_API_KEY"]' : '"none"'})`,
    "stream = client.chat.completions.create(",
    ...fields.map(([name, value]) => `    ${name}=${literal(value, 4, name.length + 2)},`),
    ")",
    "for chunk in stream:",
    "    for choice in chunk.choices:",
    '        print(choice.delta.content or "", end="", flush=True)',
    "print()",
    "",
  ].join("\n");
}

// A JSON value in Python: on one line if it fits, `used` being what stands before it there.
function literal(value, indent, used) {
  const line = flat(value);
  if (value === null || typeof value !== "object" || indent + used + line.length <= WIDTH) return line;
  const inside = " ".repeat(indent + 4);
  const parts = Array.isArray(value)
    ? value.map((item) => literal(item, indent + 4, 1))
    : Object.entries(value).map(([key, item]) => {
      const name = `${JSON.stringify(key)}: `;
      return name + literal(item, indent + 4, name.length + 1);
    });
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${parts.map((part) => `${inside}${part},\n`).join("")}${" ".repeat(indent)}${close}`;
}

// Python spells texts and numbers as JSON does.
function flat(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(flat).join(", ")}]`;
  return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${flat(item)}`).join(", ")}}`;
}
