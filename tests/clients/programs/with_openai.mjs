// OpenAI's own client for JavaScript.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { KEY, MODEL, QUESTION, URL, gathered, run } from "./shared.mjs";

const client = new OpenAI({ baseURL: URL, apiKey: KEY });
const City = z.object({ kind: z.enum(["town", "port"]), old: z.boolean() });
const asked = { model: MODEL, messages: [{ role: "user", content: QUESTION }] };

await run({
  async chat() {
    const completion = await client.chat.completions.create(asked);
    return completion.choices[0].message.content;
  },

  async stream() {
    const chunks = await gathered(await client.chat.completions.create({ ...asked, stream: true }));
    return chunks.map((chunk) => chunk.choices[0]?.delta?.content || "");
  },

  async parse() {
    const completion = await client.chat.completions.parse({
      ...asked,
      response_format: zodResponseFormat(City, "city"),
    });
    return completion.choices[0].message.parsed;
  },
});
