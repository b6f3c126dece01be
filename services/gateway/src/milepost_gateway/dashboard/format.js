// Formats times, numbers and states.

import { html, nothing } from "./vendor/lit-html/lit-html.js";

export const ago = (text) => {
  const seconds = Math.max(0, (Date.now() - new Date(text)) / 1000);
  for (const [length, unit] of [[86_400, "d"], [3_600, "h"], [60, "min"]]) {
    if (seconds >= 2 * length) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
};

export const moment = (text) => (text ? new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) : "");

export const length = (seconds) => {
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.round((seconds % 3_600) / 60)} min`;
};

/** Integers in full, other numbers to four significant digits. */
export const amount = (number) => new Intl.NumberFormat(undefined, Number.isInteger(number) ? {} : { maximumSignificantDigits: 4 }).format(number);

export const bytes = (number) => {
  let left = number;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (left < 1000 || unit === "GB") return `${amount(left)} ${unit}`;
    left /= 1000;
  }
};

export const status = (name) => html`<span class="status ${name}">${name}</span>`;

/** The progress of a job as a bar with a percentage; labelled for screen readers. */
export function bar(job, { wide = false } = {}) {
  const progress = job.progress;
  const percent = job.status === "succeeded" ? 100 : progress?.percent;
  if (!progress && percent === undefined) return nothing;
  const label = `progress of ${job.type} ${job.id.slice(-6)}`;
  return html`<span class="bar ${wide ? "wide" : ""}">
    ${percent === null || percent === undefined
      ? html`<progress class=${job.status} aria-label=${label}></progress>`
      : html`<progress class=${job.status} max="100" value=${percent} aria-label=${label}></progress><span class="percent">${Math.floor(percent)} %</span>`}
  </span>`;
}

/** The progress of a job in words: message, counts, rate and remaining time. */
export function pace(job) {
  const progress = job.progress;
  if (!progress) return "";
  const counts = `${amount(progress.done)}${progress.total === null ? "" : ` of ${amount(progress.total)}`}${progress.unit ? ` ${progress.unit}` : ""}`;
  const parts = [progress.message, counts];
  if (job.status === "running" && progress.rate) parts.push(progress.unit === "bytes" ? `${bytes(progress.rate)}/s` : `${amount(progress.rate)} ${progress.unit ?? ""}/s`.replace(" /", "/"));
  if (job.status === "running" && progress.eta_seconds !== null) parts.push(`${length(progress.eta_seconds)} left`);
  return parts.filter(Boolean).join(" · ");
}

export const json = (value) => html`<pre tabindex="0">${JSON.stringify(value, null, 2)}</pre>`;
