// A short list of traces, each a link to its waterfall.
import { Link } from "@tanstack/react-router";
import { type TraceFilter, useTraces } from "../api/queries.ts";
import type { TraceSummary } from "../api/types.ts";
import { clock, nanos, plural } from "../format.ts";
import { Failure } from "./Failure.tsx";
import { Section } from "./Section.tsx";
import { Tag } from "./Tag.tsx";

interface Props {
  title: string;
  filter: Omit<TraceFilter, "from" | "limit">;
}

export function TraceList({ title, filter }: Props) {
  const { data, error } = useTraces({ ...filter, from: "-15m", limit: 8 });
  return (
    <Section title={title} note="last 15m" sql={data?.sql ?? ""}>
      {error && <Failure what="No traces" error={error} />}
      {data && data.traces.length === 0 && <p className="dim">None.</p>}
      {data && data.traces.length > 0 && <TraceTable traces={data.traces} label={title} />}
    </Section>
  );
}

export function TraceTable({ traces, label }: { traces: TraceSummary[]; label: string }) {
  return (
    <table className="table" aria-label={label}>
      <thead>
        <tr>
          <th scope="col">trace</th>
          <th scope="col" className="num">
            spans
          </th>
          <th scope="col" className="num">
            duration
          </th>
          <th scope="col" className="num">
            at
          </th>
        </tr>
      </thead>
      <tbody>
        {traces.map((trace) => (
          <tr key={trace.trace_id}>
            <td>
              <Link
                to="/traces/$traceId"
                params={{ traceId: trace.trace_id }}
                className="link"
                data-testid="trace-link"
              >
                {trace.root_service ? `${trace.root_service}: ${trace.root_name}` : trace.trace_id}
              </Link>{" "}
              {trace.errors > 0 && (
                <Tag tone="critical" icon="critical">
                  {plural(trace.errors, "error")}
                </Tag>
              )}
            </td>
            <td className="num">{trace.spans}</td>
            <td className="num">{nanos(trace.duration_ns)}</td>
            <td className="num dim">{clock(trace.start_time)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
