// The waterfall: a line a span, virtualised so that a trace of ten thousand spans scrolls like one of ten.
import { useVirtualizer } from "@tanstack/react-virtual";
import { type CSSProperties, useMemo, useRef, useState } from "react";
import { nanos } from "../../format.ts";
import { Icon } from "../../parts/Icon.tsx";
import { serviceHue } from "./hue.ts";
import styles from "./TracePage.module.css";
import { type Line, visible, type Waterfall } from "./tree.ts";

const LINE_HEIGHT = 28;
const TICKS = [0, 0.25, 0.5, 0.75, 1];
/** Deeper spans are not moved further right. */
const DEEPEST_INDENT = 16;

interface Props {
  waterfall: Waterfall;
  selected: string | undefined;
  onSelect: (id: string | undefined) => void;
}

export function WaterfallView({ waterfall, selected, onSelect }: Props) {
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const lines = useMemo(() => visible(waterfall.lines, closed), [waterfall, closed]);
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => LINE_HEIGHT,
    overscan: 20,
  });
  const fold = (id: string) =>
    setClosed((before) => {
      const after = new Set(before);
      if (!after.delete(id)) after.add(id);
      return after;
    });
  return (
    <div className={styles.waterfall} data-testid="waterfall">
      <div className={styles.axis} aria-hidden="true">
        <span>span</span>
        <div className={styles.ticks}>
          {TICKS.map((tick) => (
            <span key={tick} style={{ left: `${tick * 100}%` }}>
              {nanos(tick * waterfall.duration_ns)}
            </span>
          ))}
        </div>
      </div>
      <div ref={scroller} className={styles.scroller}>
        <ol className={styles.lines} style={{ height: rows.getTotalSize() }}>
          {rows.getVirtualItems().map((row) => {
            const line = lines[row.index];
            if (!line) return null;
            return (
              <li
                key={line.span.span_id}
                style={{ transform: `translateY(${row.start}px)` }}
                aria-setsize={lines.length}
                aria-posinset={row.index + 1}
              >
                <SpanLine
                  line={line}
                  total={waterfall.duration_ns}
                  selected={line.span.span_id === selected}
                  folded={closed.has(line.span.span_id)}
                  onFold={fold}
                  onSelect={onSelect}
                />
              </li>
            );
          })}
        </ol>
      </div>
    </div>
  );
}

/** A duration stands behind its bar, or before it, or in it where neither has room; all in percent. */
function timePlace(left: number, width: number) {
  if (left + width <= 75) return { style: { left: `${left + width}%` } };
  if (left >= 25) return { style: { right: `${100 - left}%` } };
  return { style: { right: `${Math.max(100 - left - width, 0)}%` }, "data-inside": true };
}

interface LineProps {
  line: Line;
  total: number;
  selected: boolean;
  folded: boolean;
  onFold: (id: string) => void;
  onSelect: (id: string | undefined) => void;
}

function SpanLine({ line, total, selected, folded, onFold, onSelect }: LineProps) {
  const { span, depth, offset_ns, below } = line;
  const failed = span.status === "error";
  const left = (offset_ns / total) * 100;
  const width = Math.max((span.duration_ns / total) * 100, 0.25);
  return (
    <div className={styles.line} data-selected={selected} data-failed={failed}>
      <div className={styles.name} style={{ "--depth": Math.min(depth, DEEPEST_INDENT) } as CSSProperties}>
        {below > 0 ? (
          <button
            type="button"
            className={styles.fold}
            aria-expanded={!folded}
            aria-label={`${below} spans below ${span.name}`}
            onClick={() => onFold(span.span_id)}
          >
            <Icon name={folded ? "right" : "down"} size={12} />
          </button>
        ) : (
          <span className={styles.fold} />
        )}
        <button
          type="button"
          className={styles.pick}
          data-testid="span"
          aria-pressed={selected}
          aria-label={`${span.service} ${span.name}, ${nanos(span.duration_ns)}${failed ? ", failed" : ""}`}
          onClick={() => onSelect(selected ? undefined : span.span_id)}
        >
          <i className={styles.service} style={{ background: serviceHue(span.service) }} />
          {failed && (
            <span className={styles.failed}>
              <Icon name="critical" size={11} />
            </span>
          )}
          <b>{span.service}</b> {span.name}
        </button>
      </div>
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the button beside it does the same */}
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: the button beside it does the same */}
      <div className={styles.track} onClick={() => onSelect(span.span_id)}>
        <div
          className={styles.bar}
          style={{ left: `${left}%`, width: `${width}%`, background: serviceHue(span.service) }}
        />
        <span className={styles.time} {...timePlace(left, width)}>
          {nanos(span.duration_ns)}
        </span>
      </div>
    </div>
  );
}
