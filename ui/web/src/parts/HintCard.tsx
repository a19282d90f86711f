// One hint: what was asked of the proxies and why, and what each of them answered.
import { text } from "../api/decode.ts";
import type { Hint } from "../api/types.ts";
import { ago, clock, millis, percent } from "../format.ts";
import styles from "./Card.module.css";
import { Fact } from "./FindingCard.tsx";
import { SqlButton } from "./SqlButton.tsx";
import { Tag, type Tone } from "./Tag.tsx";

const VERDICT_TONES: Record<string, Tone> = {
  applied: "accent",
  clamped: "warning",
  vetoed: "warning",
  shadowed: "idle",
  expired: "idle",
  reverted: "ok",
};

/** When it was withdrawn, or when its lease ran out without renewal. */
export function ending(hint: Hint): string {
  if (hint.withdrawn_at) return `withdrawn ${clock(hint.withdrawn_at)}`;
  const renewed = Date.parse(hint.renewed_at ?? hint.issued_at ?? "");
  const lapsed = renewed + (hint.ttl_ms ?? 0);
  return Number.isNaN(lapsed) ? "ended" : `lapsed ${clock(new Date(lapsed).toISOString())}`;
}

export function HintCard({ hint }: { hint: Hint }) {
  const target = hint.target || hint.service;
  return (
    <article
      className={styles.card}
      data-tone={hint.active ? "accent" : "idle"}
      data-testid="hint"
      data-active={hint.active}
    >
      <div className={styles.head}>
        <Tag tone={hint.active ? "accent" : "idle"} icon="breaker">
          {hint.active ? "in force" : "ended"}
        </Tag>
        <h3>
          {hint.action.replaceAll("_", " ")} {target}
        </h3>
        <Tag>{hint.mode.replaceAll("_", " ")}</Tag>
        <span className={styles.aside}>
          {hint.active ? `renewed ${ago(hint.renewed_at ?? hint.issued_at)}` : ending(hint)}
          <SqlButton about={`the evidence of hint ${hint.id}`} sql={text(hint.evidence.query)} />
        </span>
      </div>
      <dl className={styles.facts}>
        <Fact name="for" value={hint.callers.length > 0 ? hint.callers.join(", ") : "every caller"} />
        <Fact name="issued" value={clock(hint.issued_at)} />
        <Fact name="lease" value={millis(hint.ttl_ms)} />
        <Fact name="hint" value={hint.id} />
        <Fact name="finding" value={hint.finding} />
      </dl>
      {hint.acks.length > 0 && (
        <div className={styles.scroll}>
          <table className="table">
            <thead>
              <tr>
                <th scope="col">proxy</th>
                <th scope="col">answer</th>
                <th scope="col">breaker</th>
                <th scope="col" className="num">
                  success before → after
                </th>
                <th scope="col" className="num">
                  at
                </th>
              </tr>
            </thead>
            <tbody>
              {hint.acks.map((ack) => (
                <tr key={`${ack.proxy} ${ack.time} ${ack.verdict} ${ack.state}`}>
                  <td className="name" title={ack.proxy}>
                    {ack.proxy || ack.proxy_service}
                  </td>
                  <td>
                    <Tag tone={VERDICT_TONES[ack.verdict] ?? "idle"}>{ack.verdict}</Tag>{" "}
                    <span className="dim">{ack.reason}</span>
                  </td>
                  <td>{ack.state}</td>
                  <td className="num">
                    {percent(ack.success_rate_before)} → {percent(ack.success_rate_after)}
                  </td>
                  <td className="num dim">{clock(ack.time)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </article>
  );
}
