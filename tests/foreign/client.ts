// A client typed by openapi.json alone (openapi-typescript, openapi-fetch): submits a job, polls to its end.
import createClient from "openapi-fetch";
import type { components, paths } from "./made/schema.js";

const url = process.env.MILEPOST_URL;
if (url === undefined) throw new Error("set MILEPOST_URL");
const gateway = createClient<paths>({ baseUrl: url, signal: AbortSignal.timeout(30_000) });
const ended: components["schemas"]["Status"][] = ["succeeded", "failed", "canceled"];

const submitted = await gateway.POST("/v1/jobs", { body: { type: "count", params: { steps: 5 } } });
if (submitted.data === undefined) throw new Error(`not accepted: ${submitted.error.title}`);
let job = submitted.data;

while (!ended.includes(job.status)) {
  const { data, error, response } = await gateway.GET("/v1/jobs/{job_id}", {
    params: { path: { job_id: job.id }, header: { Prefer: "wait=10", "If-None-Match": `"${job.version}"` } },
  });
  if (response.status === 304) continue;
  if (data === undefined) throw new Error(`lost: ${error?.title}`);
  job = data;
  console.log(`${job.status} ${job.progress?.percent ?? 0}%`);
}

const result = await gateway.GET("/v1/jobs/{job_id}/result", { params: { path: { job_id: job.id } } });
console.log(JSON.stringify(result.data));
if (JSON.stringify(result.data) !== '{"counted":5}') throw new Error("not the result of the job");

const refused = await gateway.POST("/v1/jobs/{job_id}/cancel", { params: { path: { job_id: job.id } } });
if (refused.error?.status !== 409) throw new Error(`an ended job can be canceled: ${refused.response.status}`);
console.log(`${refused.error.status} ${refused.error.title}`);
