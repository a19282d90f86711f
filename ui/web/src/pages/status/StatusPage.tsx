// How the server itself is doing: what is on its way to disk, what the tables hold, what is damaged.
import type { ReactNode } from "react";
import { useStatus } from "../../api/queries.ts";
import type { Status } from "../../api/types.ts";
import { ago, bytes, count, millis, plural } from "../../format.ts";
import { Failure } from "../../parts/Failure.tsx";
import { HealthMark } from "../../parts/HealthMark.tsx";
import { Section } from "../../parts/Section.tsx";
import styles from "./StatusPage.module.css";

export function StatusPage() {
  const { data, error } = useStatus();
  return (
    <div className="page">
      <div className="page-head">
        <h1>Status</h1>
        {data && !error && (
          <>
            <HealthMark health={healthOf(data)} />
            <span className="dim">{wordsOf(data)}</span>
          </>
        )}
      </div>
      {error && <Failure what="No status" error={error} />}
      {data && (
        <>
          <dl className={styles.figures} data-testid="figures">
            <Figure name="analysis is behind by">{millis(data.analysis_lag_ms)}</Figure>
            <Figure name="tables are behind by">{millis(data.flush_lag_ms)}</Figure>
            <Figure name="rows in memory">
              {count(data.hot_rows)} <span className="dim">{bytes(data.hot_bytes)}</span>
            </Figure>
            <Figure name="write-ahead log">{bytes(data.wal_bytes)}</Figure>
            <Figure name="last flush">{ago(data.last_flush)}</Figure>
            <Figure name="last compaction">{ago(data.last_compaction)}</Figure>
            <Figure name="series">{count(data.series)}</Figure>
          </dl>
          <Tables status={data} />
          <Quarantine status={data} />
        </>
      )}
    </div>
  );
}

function Figure({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Tables({ status }: { status: Status }) {
  return (
    <Section title="Tables" note="published files, over all tenants">
      <div className={styles.wide}>
        <table className="table" aria-label="Tables">
          <thead>
            <tr>
              <th scope="col">table</th>
              <th scope="col" className="num">
                files
              </th>
              <th scope="col" className="num">
                rows
              </th>
              <th scope="col" className="num">
                size
              </th>
              <th scope="col" className="num">
                bytes a row
              </th>
              <th scope="col" className="num">
                rows in memory
              </th>
            </tr>
          </thead>
          <tbody>
            {status.tables.map((table) => (
              <tr key={table.table}>
                <td className="mono">{table.table}</td>
                <td className="num">{count(table.files)}</td>
                <td className="num">{count(table.rows)}</td>
                <td className="num">{bytes(table.bytes)}</td>
                <td className="num">{table.rows > 0 ? (table.bytes / table.rows).toFixed(1) : "–"}</td>
                <td className="num">{count(table.hot_rows)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Section>
  );
}

function Quarantine({ status }: { status: Status }) {
  return (
    <Section title="Quarantine" note="damaged files; answers that lack their rows say so">
      {status.quarantine.length === 0 && <p className="dim">None.</p>}
      {status.quarantine.length > 0 && (
        <ul className={styles.quarantine} data-testid="quarantine">
          {status.quarantine.map((damaged) => (
            <li key={`${damaged.tenant}/${damaged.table}/${damaged.day}/${damaged.file}`}>
              {plural(damaged.rows, "row")} of <span className="mono">{damaged.table}</span> of {damaged.day}:{" "}
              {damaged.reason}
              <div className="dim mono">
                {damaged.tenant}/{damaged.table}/_quarantine/date={damaged.day}/{damaged.file}
              </div>
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}

function healthOf(status: Status) {
  if (status.stopped !== null || status.disk_full) return "critical";
  return status.quarantine.length > 0 ? "warning" : "ok";
}

function wordsOf(status: Status): string {
  if (status.stopped !== null) return `storage has stopped: ${status.stopped}`;
  if (status.disk_full) return "the disk is full: nothing is taken until there is space";
  if (status.quarantine.length > 0) return `${plural(status.quarantine.length, "damaged file")} set aside`;
  return "telemetry is taken and kept";
}
