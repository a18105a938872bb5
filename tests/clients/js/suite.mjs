// Official JavaScript clients against a running gateway: `node suite.mjs URL MODEL [real]`. Prints one JSON line per
// check. An emulated model says as many words as it may, and calls tools; a real one (`real`) says what it likes.
import assert from "node:assert/strict";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import Anthropic from "@anthropic-ai/sdk";
import { embedMany, generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";

import { gathered, report } from "./report.mjs";

const [url, model, kind] = process.argv.slice(2);
const emulated = kind !== "real";
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "anything", maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey: "anything", maxRetries: 0 });
const turnout = createOpenAICompatible({
  name: "turnout", baseURL: `${url}/v1`, includeUsage: true, supportsStructuredOutputs: true,
});
const hello = [{ role: "user", content: "say hello to the turnout" }];
const schema = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer", minimum: 1, maximum: 5 } },
  required: ["city", "days"],
  additionalProperties: false,
};
const words = (text) => text.split(/\s+/).filter(Boolean).length;

function said(text, tokens, limit) {
  if (emulated) return assert.deepEqual([words(text), tokens], [limit, limit]);
  assert.ok(text.length > 0 && tokens > 0 && tokens <= limit, `${tokens} of ${limit} tokens: ${JSON.stringify(text)}`);
}

async function refused(asked, param) {
  await assert.rejects(
    asked, ({ status, message }) => status === 400 && message.includes("smollm2") && message.includes(param),
  );
}

function fits({ city, days }) {
  assert.equal(typeof city, "string");
  assert.ok(Number.isInteger(days) && days >= 1 && days <= 5);
}

const openaiTools = [{ type: "function", function: { name: "forecast", parameters: schema } }];
const anthropicTools = [{ name: "forecast", input_schema: schema }];

const checks = {
  "openai chat": async () => {
    const answer = await openai.chat.completions.create({ model, messages: hello, max_tokens: 8 });
    said(answer.choices[0].message.content, answer.usage.completion_tokens, 8);
  },
  "openai stream": async () => {
    const options = { model, messages: hello, max_tokens: 8, stream: true, stream_options: { include_usage: true } };
    const chunks = await gathered(await openai.chat.completions.create(options));
    const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
    said(text, chunks.at(-1).usage.completion_tokens, 8);
  },
  "openai tools": async () => {
    const asked = { model, messages: hello, tools: openaiTools, tool_choice: "required" };
    if (!emulated) return refused(openai.chat.completions.create(asked), "tools");
    const answer = await openai.chat.completions.create(asked);
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
    fits(JSON.parse(call.function.arguments));
    const final = await openai.chat.completions.stream(asked).finalChatCompletion();
    fits(JSON.parse(final.choices[0].message.tool_calls[0].function.arguments));
  },
  "openai json schema": async () => {
    const format = { type: "json_schema", json_schema: { name: "trip", schema, strict: true } };
    const answer = await openai.chat.completions.create({ model, messages: hello, response_format: format });
    fits(JSON.parse(answer.choices[0].message.content));
  },
  "openai responses": async () => {
    const answer = await openai.responses.create({ model, input: "say hello", max_output_tokens: 6 });
    said(answer.output_text, answer.usage.output_tokens, 6);
    const asked = { model, input: "say hello", stream: true, max_output_tokens: 2000 };
    const last = (await gathered(await openai.responses.create(asked))).at(-1);
    assert.equal(last.type, "response.completed");
  },
  "openai embeddings": async () => {
    const asked = { model, input: ["one", "two"], dimensions: 8 };
    if (!emulated) return refused(openai.embeddings.create(asked), "embeddings");
    const answer = await openai.embeddings.create(asked);
    assert.deepEqual(answer.data.map((each) => each.embedding.length), [8, 8]);
  },
  "openai models": async () => {
    assert.ok((await gathered(openai.models.list())).some((each) => each.id === model));
  },
  "openai error": async () => {
    await assert.rejects(
      openai.chat.completions.create({ model: "nope", messages: hello }),
      (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found",
    );
  },
  "openai cancel": async () => {
    const stream = await openai.chat.completions.create({ model, messages: hello, max_tokens: 2000, stream: true });
    let seen = 0;
    for await (const _ of stream) if (++seen === 3) break; // the client aborts its request when a loop is left
    assert.ok(stream.controller.signal.aborted);
  },
  "anthropic message": async () => {
    const answer = await anthropic.messages.create({ model, messages: hello, max_tokens: 8 });
    said(answer.content[0].text, answer.usage.output_tokens, 8);
    assert.ok(answer.stop_reason === "max_tokens" || (!emulated && answer.stop_reason === "end_turn"));
  },
  "anthropic stream": async () => {
    const stream = anthropic.messages.stream({ model, messages: hello, max_tokens: 8 });
    const final = await stream.finalMessage();
    said(final.content[0].text, final.usage.output_tokens, 8);
  },
  "anthropic tools": async () => {
    const asked = { model, messages: hello, max_tokens: 500, tools: anthropicTools, tool_choice: { type: "any" } };
    if (!emulated) return refused(anthropic.messages.create(asked), "tools");
    for (const answer of [
      await anthropic.messages.create(asked), await anthropic.messages.stream(asked).finalMessage(),
    ]) {
      assert.equal(answer.stop_reason, "tool_use");
      fits(answer.content.find((block) => block.type === "tool_use").input);
    }
  },
  "anthropic count": async () => {
    assert.ok((await anthropic.messages.countTokens({ model, messages: hello })).input_tokens > 0);
  },
  "anthropic error": async () => {
    await assert.rejects(
      anthropic.messages.create({ model: "nope", messages: hello, max_tokens: 4 }),
      (error) => error instanceof Anthropic.NotFoundError && error.error.error.type === "not_found_error",
    );
  },
  "anthropic cancel": async () => {
    const stream = anthropic.messages.stream({ model, messages: hello, max_tokens: 2000 });
    stream.on("text", () => stream.abort());
    await assert.rejects(stream.finalMessage(), (error) => error instanceof Anthropic.APIUserAbortError);
  },
  "ai generate": async () => {
    const { text, usage } = await generateText({ model: turnout(model), prompt: "say hello", maxOutputTokens: 8 });
    said(text, usage.outputTokens, 8);
  },
  "ai stream": async () => {
    const { textStream, usage } = streamText({ model: turnout(model), prompt: "say hello", maxOutputTokens: 8 });
    said((await gathered(textStream)).join(""), (await usage).outputTokens, 8);
  },
  "ai object": async () => {
    const { object } = await generateObject({ model: turnout(model), prompt: "a trip", schema: jsonSchema(schema) });
    fits(object);
  },
  "ai tool loop": async () => {
    const asked = [];
    const forecast = tool({
      inputSchema: jsonSchema(schema),
      execute: async (input) => { asked.push(input); return "sunny"; },
    });
    const asking = {
      model: turnout(model), prompt: "the weather?", tools: { forecast }, stopWhen: stepCountIs(4), maxOutputTokens: 200,
    };
    if (!emulated) return assert.rejects(generateText(asking), ({ statusCode }) => statusCode === 400);
    const { text } = await generateText(asking);
    assert.equal(asked.length, 1);
    fits(asked[0]);
    assert.ok(words(text) > 0);
  },
  "ai embeddings": async () => {
    const asking = { model: turnout.textEmbeddingModel(model), values: ["one", "two"] };
    if (!emulated) return assert.rejects(embedMany(asking), ({ statusCode }) => statusCode === 400);
    const embedded = await embedMany(asking);
    assert.equal(embedded.embeddings.length, 2);
  },
};

await report(Object.entries(checks));
