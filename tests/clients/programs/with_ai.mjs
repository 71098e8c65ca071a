// Vercel's AI SDK, with its providers for compatible servers and for OpenAI.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, generateText, streamText } from "ai";
import { z } from "zod";
import { KEY, MODEL, QUESTION, URL, gathered, run } from "./shared.mjs";

const settings = { name: "taketurns", baseURL: URL, apiKey: KEY };
const compatible = createOpenAICompatible(settings);
const strict = createOpenAICompatible({ ...settings, supportsStructuredOutputs: true });
const City = z.object({ kind: z.enum(["town", "port"]), old: z.boolean() });
const city = Output.object({ schema: City });

await run({
  async chat() {
    const { text } = await generateText({ model: compatible(MODEL), prompt: QUESTION });
    return text;
  },

  async openai_chat() {
    const model = createOpenAI({ baseURL: URL, apiKey: KEY }).chat(MODEL);
    return (await generateText({ model, prompt: QUESTION })).text;
  },

  async stream() {
    const result = streamText({ model: compatible(MODEL), prompt: QUESTION });
    return gathered(result.textStream);
  },

  async json_schema() {
    return (await generateText({ model: strict(MODEL), output: city, prompt: QUESTION })).output;
  },

  async json_schema_stream() {
    const result = streamText({ model: strict(MODEL), output: city, prompt: QUESTION });
    return (await gathered(result.partialOutputStream)).at(-1);
  },

  async json_object() {
    const model = compatible(MODEL);
    return (await generateText({ model, output: city, prompt: QUESTION })).output;
  },
});
