// The subject's numbers by replica, so that one bad apple shows.
import { number, text } from "../../api/decode.ts";
import { useSql } from "../../api/queries.ts";
import type { Hint } from "../../api/types.ts";
import { count, millis, percent } from "../../format.ts";
import { Failure } from "../../parts/Failure.tsx";
import { Section } from "../../parts/Section.tsx";
import { Tag } from "../../parts/Tag.tsx";
import { byReplica, type Subject } from "../../sql/statements.ts";

interface Props {
  subject: Subject;
  window: string;
  hints: Hint[];
}

/** From this share of errors on a replica is marked. */
const MARKED_ERROR_RATE = 0.05;

export function Replicas({ subject, window, hints }: Props) {
  const query = byReplica(subject, window);
  const { data, error } = useSql(query);
  if (data && data.rows.length === 0) return null;
  return (
    <Section title="Replicas" note={`last ${window}`} sql={query}>
      {error && <Failure what="No replicas" error={error} />}
      <table className="table" data-testid="replicas">
        <thead>
          <tr>
            <th scope="col">replica</th>
            <th scope="col" className="num">
              calls
            </th>
            <th scope="col" className="num">
              errors
            </th>
            <th scope="col" className="num">
              p50
            </th>
            <th scope="col" className="num">
              p99
            </th>
          </tr>
        </thead>
        <tbody>
          {data?.rows.map((row) => {
            const endpoint = text(row.endpoint);
            const errors = number(row.error_rate);
            const hint = hints.find((it) => it.target === endpoint && it.mode === "enforce");
            return (
              <tr key={endpoint}>
                <td className="name" title={endpoint}>
                  {endpoint}{" "}
                  {hint && (
                    <Tag tone="critical" icon="breaker">
                      {hint.action === "eject" ? "ejected" : hint.action}
                    </Tag>
                  )}
                </td>
                <td className="num">{count(number(row.calls))}</td>
                <td className="num">
                  {errors !== null && errors >= MARKED_ERROR_RATE ? (
                    <Tag tone="critical" icon="critical">
                      {percent(errors)}
                    </Tag>
                  ) : (
                    percent(errors)
                  )}
                </td>
                <td className="num">{millis(number(row.p50_ms))}</td>
                <td className="num">{millis(number(row.p99_ms))}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </Section>
  );
}
