// Points in time as Discord shows them; relative ones tick.

import { h } from "./dom.js";

let locale;

/** Use a user's language for dates from now on. */
export function setLocale(name) {
  try {
    locale = Intl.getCanonicalLocales(name)[0];
  } catch {
    locale = undefined;
  }
}

const format = (date, options) => new Intl.DateTimeFormat(locale, options).format(date);

const STYLES = {
  t: { timeStyle: "short" },
  T: { timeStyle: "medium" },
  d: { dateStyle: "short" },
  D: { dateStyle: "long" },
  f: { dateStyle: "long", timeStyle: "short" },
  F: { dateStyle: "full", timeStyle: "short" },
  s: { dateStyle: "short", timeStyle: "short" },
  S: { dateStyle: "short", timeStyle: "medium" },
};

const STEPS = [
  ["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60],
];

/** Say how far a moment is from now: "in 12 seconds". */
export function relative(seconds) {
  const away = seconds - Date.now() / 1000;
  const words = new Intl.RelativeTimeFormat(locale, { numeric: "always" });
  for (const [unit, length] of STEPS) {
    if (Math.abs(away) >= length) return words.format(Math.trunc(away / length), unit);
  }
  return words.format(Math.trunc(away), "second");
}

/** Draw `<t:seconds:style>`. */
export function timestamp(seconds, style = "f") {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return h("span.time", null, "Invalid Date");
  return h(
    "time.time",
    {
      datetime: date.toISOString(),
      title: format(date, STYLES.F),
      dataset: style === "R" ? { relative: String(seconds) } : {},
    },
    style === "R" ? relative(seconds) : format(date, STYLES[style] ?? STYLES.f),
  );
}

const sameDay = (a, b) => a.toDateString() === b.toDateString();

/** Say when a message was sent, short: "14:05", or with its date when not today. */
export function when(iso) {
  const date = new Date(iso);
  if (sameDay(date, new Date())) return format(date, STYLES.t);
  return format(date, STYLES.s);
}

export const clock = (iso) => format(new Date(iso), STYLES.t);
export const full = (iso) => format(new Date(iso), STYLES.F);
export const day = (iso) => format(new Date(iso), STYLES.D);
export const differentDay = (a, b) => !sameDay(new Date(a), new Date(b));

setInterval(() => {
  for (const node of document.querySelectorAll("time[data-relative]")) {
    const text = relative(Number(node.dataset.relative));
    if (node.textContent !== text) node.textContent = text;
  }
}, 1000);
