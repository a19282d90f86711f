// The rows of an answer, virtualised: ten thousand of them are normal.

import { Link } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef } from "react";
import type { Column, SqlResult } from "../../api/types.ts";
import { cellText, isNumeric } from "./cells.ts";
import styles from "./SqlPage.module.css";

const ROW_HEIGHT = 27;
/** Longer texts are cut in the table; the title has them whole. */
const MOST_CHARACTERS = 160;

export function ResultTable({ result }: { result: SqlResult }) {
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: result.rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 24,
  });
  if (result.rows.length === 0) return <p className={styles.none}>The answer has no rows.</p>;
  const items = rows.getVirtualItems();
  const before = items[0]?.start ?? 0;
  const after = rows.getTotalSize() - (items.at(-1)?.end ?? 0);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable from the keyboard
    <section ref={scroller} className={styles.result} aria-label="Result" tabIndex={0}>
      <table data-testid="result">
        <thead>
          <tr>
            {result.columns.map((column) => (
              <th key={column.name} scope="col" data-numeric={isNumeric(column)}>
                {column.name} <span>{column.type}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {before > 0 && <tr style={{ height: before }} />}
          {items.map((item) => {
            const row = result.rows[item.index] ?? {};
            return (
              <tr key={item.index}>
                {result.columns.map((column) => (
                  <Cell key={column.name} column={column} value={row[column.name]} />
                ))}
              </tr>
            );
          })}
          {after > 0 && <tr style={{ height: after }} />}
        </tbody>
      </table>
    </section>
  );
}

function Cell({ column, value }: { column: Column; value: unknown }) {
  if (value === null || value === undefined) return <td className={styles.null}>null</td>;
  const whole = cellText(value);
  const shown = whole.length > MOST_CHARACTERS ? `${whole.slice(0, MOST_CHARACTERS)}…` : whole;
  if (column.name === "trace_id" && /^[0-9a-f]{32}$/.test(whole)) {
    return (
      <td>
        <Link to="/traces/$traceId" params={{ traceId: whole }} className="link">
          {whole}
        </Link>
      </td>
    );
  }
  return (
    <td data-numeric={isNumeric(column)} title={whole.length > MOST_CHARACTERS ? whole : undefined}>
      {shown}
    </td>
  );
}
