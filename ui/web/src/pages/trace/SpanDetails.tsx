// All that a span says about itself.
import { Link } from "@tanstack/react-router";
import type { Attributes, Span } from "../../api/types.ts";
import { nanos, nanosBetween } from "../../format.ts";
import { Icon } from "../../parts/Icon.tsx";
import { Section } from "../../parts/Section.tsx";
import { Tag } from "../../parts/Tag.tsx";
import styles from "./TracePage.module.css";

interface Props {
  span: Span;
  traceStart: string;
  onClose: () => void;
}

export function SpanDetails({ span, traceStart, onClose }: Props) {
  return (
    <aside className={styles.details} aria-label={`Span ${span.name}`} data-testid="span-details">
      <div className={styles.detailsHead}>
        <div className="grow">
          <h2>{span.name}</h2>
          <Link to="/" search={{ node: span.service }} className="link">
            {span.service}
          </Link>
        </div>
        <button type="button" className={styles.close} aria-label="Close span" onClick={onClose}>
          <Icon name="close" size={16} />
        </button>
      </div>
      <div className={styles.tags}>
        <Tag>{span.kind || "unspecified"}</Tag>
        <Tag
          tone={span.status === "error" ? "critical" : span.status === "ok" ? "ok" : "idle"}
          {...(span.status === "error" ? { icon: "critical" as const } : {})}
        >
          {span.status === "error" ? "error" : `status ${span.status || "unset"}`}
        </Tag>
        <Tag>{nanos(span.duration_ns)}</Tag>
        {traceStart && <Tag>at {nanos(nanosBetween(traceStart, span.start_time))}</Tag>}
      </div>
      {span.status_message && <p className={styles.message}>{span.status_message}</p>}
      <AttributeTable title="Attributes" attributes={span.attributes} />
      {span.events.length > 0 && (
        <Section title="Events" note={`${span.events.length}`}>
          {span.events.map((event, index) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: events have no other identity
            <div key={index} className={styles.event}>
              <b>{event.name}</b>{" "}
              <span className="dim">{traceStart && nanos(nanosBetween(traceStart, event.time))}</span>
              <Entries attributes={event.attributes} />
            </div>
          ))}
        </Section>
      )}
      <AttributeTable title="Resource" attributes={span.resource_attributes} />
      <Section title="Ids">
        <Entries
          attributes={{ span: span.span_id, parent: span.parent_span_id ?? "none", start: span.start_time }}
        />
      </Section>
    </aside>
  );
}

function AttributeTable({ title, attributes }: { title: string; attributes: Attributes }) {
  const size = Object.keys(attributes).length;
  if (size === 0) return null;
  return (
    <Section title={title} note={`${size}`}>
      <Entries attributes={attributes} />
    </Section>
  );
}

function Entries({ attributes }: { attributes: Attributes }) {
  const entries = Object.entries(attributes).sort(([a], [b]) => a.localeCompare(b));
  return (
    <dl className={styles.entries}>
      {entries.map(([key, value]) => (
        <div key={key}>
          <dt>{key}</dt>
          <dd>{typeof value === "string" ? value : JSON.stringify(value)}</dd>
        </div>
      ))}
    </dl>
  );
}
