// OpenAI's client for JavaScript, as its users call it: pictures, an edit, both streams, a refusal.
import fs from "node:fs";
import OpenAI, { toFile } from "openai";

const [url, key, one, two, mask] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const file = (path) => toFile(fs.createReadStream(path), path, { type: "image/png" });
const said = {};

const made = await client.images.generate({ model: "gpt-image-1", prompt: "a house", n: 2 });
said.generated = made.data.map((picture) => picture.b64_json);

const edited = await client.images.edit({
  model: "gpt-image-1",
  image: [await file(one), await file(two)],
  mask: await file(mask),
  prompt: "make it blue",
});
said.edited = edited.data.map((picture) => picture.b64_json);

said.streams = [];
for (const what of ["generate", "edit"]) {
  const body = { model: "gpt-image-1", prompt: "a house", stream: true, partial_images: 1 };
  if (what === "edit") {
    body.image = [await file(one), await file(two)];
  }
  for await (const event of await client.images[what](body)) {
    said.streams.push([event.type, event.b64_json.length > 100]);
  }
}

said.model = (await client.models.retrieve("tiny")).id;
try {
  await client.images.generate({ prompt: "a house", size: "big" });
} catch (error) {
  said.refused = [error.constructor.name, error.status, error.param, Boolean(error.requestID)];
}
console.log(JSON.stringify(said));
