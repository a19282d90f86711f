// Ten-second buckets without holes: silence has no rows, and a line must not run across it.
import type { Row } from "../../api/types.ts";

const BUCKET_S = 10;
/** As many as three hours; more would be a mistake in the rows. */
const MOST_POINTS = 1080;

/** The rows at their times, and a point without a row for each bucket that has none. */
export function gapless(
  rows: readonly Row[],
  timeOf: (row: Row) => number,
): { time: number; row: Row | null }[] {
  const byTime = new Map<number, Row>();
  for (const row of rows) {
    const time = timeOf(row);
    if (Number.isFinite(time)) byTime.set(Math.round(time / BUCKET_S) * BUCKET_S, row);
  }
  if (byTime.size === 0) return [];
  const times = [...byTime.keys()];
  const last = Math.max(...times);
  const first = Math.max(Math.min(...times), last - MOST_POINTS * BUCKET_S);
  const points = [];
  for (let time = first; time <= last; time += BUCKET_S) points.push({ time, row: byTime.get(time) ?? null });
  return points;
}
