// Official JavaScript clients over a service that fails: `node faults.mjs URL MODEL before|midway [STATUS]`. A failure
// before the first byte is the client's own exception with that status, one midway never a whole answer. Prints one
// JSON line per check.
import assert from "node:assert/strict";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import Anthropic from "@anthropic-ai/sdk";
import { generateText, streamText } from "ai";
import OpenAI from "openai";

import { gathered, report } from "./report.mjs";

const [url, model, when, status] = process.argv.slice(2);
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "anything", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey: "anything", maxRetries: 0 });
const turnout = createOpenAICompatible({ name: "turnout", baseURL: `${url}/v1` });
const asked = { model, messages: [{ role: "user", content: "say something" }], max_tokens: 60 };
const asking = { model: turnout(model), prompt: "say something", maxOutputTokens: 60, maxRetries: 0 };

const parts = async () => gathered(streamText({ ...asking, onError: () => {} }).fullStream);

const before = {
  "openai": () => openai.chat.completions.create(asked),
  "openai stream": async () => gathered(await openai.chat.completions.create({ ...asked, stream: true })),
  "openai responses": () => openai.responses.create({ model, input: "say something" }),
  "anthropic": () => anthropic.messages.create(asked),
  "anthropic stream": () => anthropic.messages.stream(asked).finalMessage(),
  "ai": () => generateText(asking),
  "ai stream": async () => {
    throw (await parts()).find((part) => part.type === "error").error;
  },
};

// The service's own failure, or that after so many of them it is left alone for a while.
const refused = (ask) => () => assert.rejects(ask(), (error) => {
  const found = String(error.status ?? error.statusCode);
  const rests = found === "429" && /overloaded/.test(JSON.stringify(error.error ?? error.data ?? error.responseBody));
  assert.ok(found === status || rests, `${found}: ${error.message}`);
  return true;
});

const midway = {
  "openai stream": async () => {
    const chunks = [];
    const ask = async () => gathered(await openai.chat.completions.create({ ...asked, stream: true }), chunks);
    await assert.rejects(ask(), OpenAI.APIError);
    assert.ok(chunks.length > 0);
    assert.ok(chunks.every((chunk) => chunk.choices.every((choice) => !choice.finish_reason)));
  },
  "openai responses": async () => {
    const events = [];
    const ask = async () => gathered(await openai.responses.create({ ...asked, input: "x", stream: true }), events);
    await ask().catch((error) => assert.ok(error instanceof OpenAI.APIError));
    const types = events.map((event) => event.type);
    assert.ok(types.includes("response.failed") && !types.includes("response.completed"), String(types));
  },
  "anthropic stream": async () => {
    await assert.rejects(anthropic.messages.stream(asked).finalMessage(), Anthropic.APIError);
  },
  "ai stream": async () => {
    const types = (await parts()).map((part) => part.type);
    assert.ok(types.includes("text-delta") && types.includes("error"), String(types));
  },
};

const refusals = Object.entries(before).map(([name, ask]) => [name, refused(ask)]);

await report(when === "before" ? refusals : Object.entries(midway));
