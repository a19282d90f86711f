// Rate, errors and latency of a subject over time, from ten-second buckets.
import { number, text } from "../../api/decode.ts";
import { useSql } from "../../api/queries.ts";
import type { Row } from "../../api/types.ts";
import { millis, rate } from "../../format.ts";
import { Chart } from "../../parts/Chart.tsx";
import { Failure } from "../../parts/Failure.tsx";
import { Section } from "../../parts/Section.tsx";
import { overTime, type Subject } from "../../sql/statements.ts";
import { gapless } from "./gapless.ts";

interface Props {
  subject: Subject;
  window: string;
}

export function Charts({ subject, window }: Props) {
  // Fewer than five minutes of ten-second points make no chart.
  const shown = window === "1m" || window === "5m" ? "15m" : window;
  const query = overTime(subject, shown);
  const { data, error } = useSql(query);
  const points = gapless(data?.rows ?? [], (row: Row) => Date.parse(text(row.time)) / 1000);
  const times = points.map((point) => point.time);
  const column = (name: string, absent: number | null) =>
    points.map(({ row }) => (row ? number(row[name]) : absent));
  return (
    <Section title="Over time" note={`last ${shown}`} sql={query}>
      {error && <Failure what="No charts" error={error} />}
      {data && points.length === 0 && <p className="dim">No calls in these {shown}.</p>}
      {points.length > 0 && (
        <>
          <Chart
            title="Calls"
            times={times}
            format={rate}
            lines={[
              { label: "calls", values: column("calls_per_s", 0), tone: "series-1", fill: true },
              { label: "errors", values: column("errors_per_s", 0), tone: "critical" },
              { label: "refused", values: column("refused_per_s", 0), tone: "series-2" },
            ]}
          />
          <Chart
            title="Latency"
            times={times}
            format={millis}
            lines={[
              { label: "p99", values: column("p99_ms", null), tone: "series-3" },
              { label: "p50", values: column("p50_ms", null), tone: "series-1" },
            ]}
          />
        </>
      )}
    </Section>
  );
}
