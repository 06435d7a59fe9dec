// A program on the client that a generator wrote from /openapi.json; it is compiled strictly first.
import { openAsBlob } from "node:fs";
import {
  cancelJob, editImages, generate, listJobs, listModels, readEvents, readJob,
} from "./client";
import { client } from "./client/client.gen";
import type { JobView } from "./client";

async function main([url, key, one, two]: string[]): Promise<void> {
  client.setConfig({ baseUrl: url, auth: key });
  const options = { throwOnError: true } as const;

  const made = await generate({ ...options, body: { prompt: "a house", seed: 7, count: 2 } });
  const pictures = "image_urls" in made.data ? made.data.image_urls : undefined;

  const queued = await generate({ ...options, query: { async: true }, body: { prompt: "a boat" } });
  const job = queued.data as JobView;
  const { stream } = await readEvents({ path: { job_id: job.id } });
  const events: string[] = [];
  for await (const event of stream) {
    events.push(typeof event);
  }
  const ended = await readJob({ ...options, path: { job_id: job.id } });
  const listed = await listJobs({ ...options, query: { state: ["generated"], limit: 10 } });
  const models = await listModels(options);

  const edited = await editImages({
    ...options,
    body: { image: [await openAsBlob(one!), await openAsBlob(two!)], prompt: "make it blue" },
  });
  const late = await cancelJob({ path: { job_id: job.id } });

  console.log(
    JSON.stringify({
      pictures: pictures?.length,
      queued: [queued.response.status, job.state],
      events: events.length,
      ended: [ended.data.state, ended.data.images.length],
      listed: listed.data.jobs.map((found) => found.id).includes(job.id),
      models: models.data.data.map((model) => model.id),
      edited: edited.data.data.length,
      late: [late.response?.status, late.error?.detail],
    }),
  );
}

void main(process.argv.slice(2));
