// How times, numbers and states look.

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

/** Counts as they are, measures to four digits. */
export const amount = (number) => new Intl.NumberFormat(undefined, Number.isInteger(number) ? {} : { maximumSignificantDigits: 4 }).format(number);

export const bytes = (number) => {
  let left = number;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (left < 1000 || unit === "GB") return `${amount(left)} ${unit}`;
    left /= 1000;
  }
};

export const status = (name) => html`<span class="status ${name}">${name}</span>`;

/** How far a job is, as a bar with words; a screen reader hears the words. */
export function bar(job, { wide = false } = {}) {
  const told = job.progress;
  const percent = job.status === "succeeded" ? 100 : told?.percent;
  if (!told && percent === undefined) return nothing;
  const label = `progress of ${job.type} ${job.id.slice(-6)}`;
  return html`<span class="bar ${wide ? "wide" : ""}">
    ${percent === null || percent === undefined
      ? html`<progress class=${job.status} aria-label=${label}></progress>`
      : html`<progress class=${job.status} max="100" value=${percent} aria-label=${label}></progress><span class="percent">${Math.floor(percent)} %</span>`}
  </span>`;
}

export function pace(job) {
  const told = job.progress;
  if (!told) return "";
  const counted = `${amount(told.done)}${told.total === null ? "" : ` of ${amount(told.total)}`}${told.unit ? ` ${told.unit}` : ""}`;
  const words = [told.message, counted];
  if (job.status === "running" && told.rate) words.push(told.unit === "bytes" ? `${bytes(told.rate)}/s` : `${amount(told.rate)} ${told.unit ?? ""}/s`.replace(" /", "/"));
  if (job.status === "running" && told.eta_seconds !== null) words.push(`${length(told.eta_seconds)} left`);
  return words.filter(Boolean).join(" · ");
}

export const json = (value) => html`<pre tabindex="0">${JSON.stringify(value, null, 2)}</pre>`;
