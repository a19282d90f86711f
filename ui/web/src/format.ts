// Numbers and moments as people read them.

const NONE = "–";

/** Calls per second: `0.25/s`, `12.3/s`, `1.2k/s`. */
export function rate(perSecond: number | null | undefined): string {
  if (!isNumber(perSecond)) return NONE;
  if (perSecond === 0) return "0/s";
  if (perSecond >= 999_950) return `${(perSecond / 1e6).toFixed(1)}M/s`;
  if (perSecond >= 999.5) return `${(perSecond / 1000).toFixed(1)}k/s`;
  return `${short(perSecond)}/s`;
}

/** A share from 0 to 1: `0%`, `0.42%`, `12.5%`, `100%`. */
export function percent(share: number | null | undefined): string {
  if (!isNumber(share)) return NONE;
  const value = share * 100;
  if (value === 0) return "0%";
  if (value < 0.01) return "<0.01%";
  // Nine failures in ten thousand are not none.
  if (share < 1 && value >= 99.95) return "99.9%";
  return `${trim(value.toFixed(value < 1 ? 2 : 1))}%`;
}

/** Milliseconds: `0.42 ms`, `34 ms`, `1.25 s`. */
export function millis(ms: number | null | undefined): string {
  if (!isNumber(ms)) return NONE;
  if (ms === 0) return "0 ms";
  if (ms < 0.001) return "<1 µs";
  if (ms < 0.0995) return `${Math.round(ms * 1000)} µs`;
  if (ms >= 59_995) return `${trim((ms / 60_000).toFixed(1))} min`;
  if (ms >= 999.5) return `${trim((ms / 1000).toFixed(2))} s`;
  return `${short(ms)} ms`;
}

/** Nanoseconds, in the unit that fits. */
export function nanos(ns: number | null | undefined): string {
  return millis(isNumber(ns) ? ns / 1e6 : null);
}

/** A count with thousands apart. */
export function count(value: number | null | undefined): string {
  return isNumber(value) ? value.toLocaleString("en-GB", { maximumFractionDigits: 0 }) : NONE;
}

/** `1 finding`, `2 findings`. */
export function plural(amount: number, noun: string): string {
  return `${count(amount)} ${noun}${amount === 1 ? "" : "s"}`;
}

/** Bytes: `512 B`, `1.5 KiB`, `128 MiB`. */
export function bytes(value: number | null | undefined): string {
  if (!isNumber(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [left, unit] = [value, 0];
  while (left >= 1023.5 && unit < units.length - 1) [left, unit] = [left / 1024, unit + 1];
  return `${unit === 0 || left >= 99.95 ? left.toFixed(0) : left.toFixed(1)} ${units[unit]}`;
}

/** A number of unknown unit, to three figures. */
export function figure(value: number | null | undefined): string {
  return isNumber(value) ? value.toLocaleString("en-GB", { maximumSignificantDigits: 3 }) : NONE;
}

/** The time of day in the reader's zone, with the date where it is not today's. */
export function clock(moment: string | null | undefined, now = new Date()): string {
  if (!moment) return NONE;
  const at = new Date(moment);
  if (Number.isNaN(at.getTime())) return NONE;
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === now.toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

/** How long ago: `3 s ago`, `4 min ago`. */
export function ago(moment: string | null | undefined, now = Date.now()): string {
  if (!moment) return NONE;
  const seconds = (now - Date.parse(moment)) / 1000;
  if (Number.isNaN(seconds)) return NONE;
  return seconds < 1 ? "now" : `${span(seconds)} ago`;
}

/** A length of time between two moments, or until now. */
export function between(from: string | null | undefined, to: string | null | undefined): string {
  if (!from) return NONE;
  const seconds = ((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000;
  return Number.isNaN(seconds) ? NONE : span(Math.max(seconds, 0));
}

/** Nanoseconds from `from` to `to`, exact although neither fits a JavaScript number. */
export function nanosBetween(from: string, to: string): number {
  const [fromSeconds, fromNanos] = parts(from);
  const [toSeconds, toNanos] = parts(to);
  return (toSeconds - fromSeconds) * 1e9 + (toNanos - fromNanos);
}

function parts(moment: string): [seconds: number, nanos: number] {
  const fraction = /\.(\d+)/.exec(moment)?.[1] ?? "";
  const whole = Date.parse(moment.replace(/\.\d+/, ""));
  return [whole / 1000, Number(fraction.slice(0, 9).padEnd(9, "0"))];
}

function span(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** Two or three digits: `0.25`, `2.5`, `25.0`, `250`. */
function short(value: number): string {
  return value.toFixed(value < 0.995 ? 2 : value < 99.95 ? 1 : 0);
}

function trim(digits: string): string {
  return digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
}

function isNumber(value: number | null | undefined): value is number {
  return typeof value === "number" && !Number.isNaN(value);
}
