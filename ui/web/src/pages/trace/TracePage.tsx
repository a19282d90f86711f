// One trace: every span on a common time axis, and all there is to know about the one selected.
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import { useTrace } from "../../api/queries.ts";
import { clock, nanos, plural } from "../../format.ts";
import { Empty, Failure } from "../../parts/Failure.tsx";
import { SqlButton } from "../../parts/SqlButton.tsx";
import { Tag } from "../../parts/Tag.tsx";
import { Warnings } from "../../parts/Warnings.tsx";
import { SpanDetails } from "./SpanDetails.tsx";
import styles from "./TracePage.module.css";
import { waterfall } from "./tree.ts";
import { WaterfallView } from "./Waterfall.tsx";

export function TracePage() {
  const { traceId } = useParams({ from: "/traces/$traceId" });
  const { span: selected } = useSearch({ from: "/traces/$traceId" });
  const navigate = useNavigate();
  const { data, error } = useTrace(traceId);
  const shown = useMemo(() => (data ? waterfall(data) : null), [data]);
  const root = shown?.lines[0]?.span;
  const errors = shown?.lines.filter((line) => line.span.status === "error").length ?? 0;
  const services = new Set(shown?.lines.map((line) => line.span.service)).size;
  const select = (id: string | undefined) =>
    navigate({
      to: "/traces/$traceId",
      params: { traceId },
      search: (before) => ({ ...before, span: id }),
      replace: true,
    });
  const open = shown?.lines.find((line) => line.span.span_id === selected)?.span;
  return (
    <div className={styles.page}>
      <div className={styles.left}>
        <div className={styles.head}>
          <h1>{root ? `${root.service}: ${root.name}` : "Trace"}</h1>
          {errors > 0 && (
            <Tag tone="critical" icon="critical">
              {plural(errors, "error")}
            </Tag>
          )}
          <span className="grow" />
          <SqlButton about="this trace" sql={data?.sql ?? ""} />
          <div className={styles.facts}>
            {shown && shown.lines.length > 0 && (
              <>
                <span>{nanos(shown.duration_ns)}</span>
                <span>{plural(shown.lines.length, "span")}</span>
                <span>{plural(services, "service")}</span>
                <span>{clock(shown.start_time)}</span>
              </>
            )}
            <span className="mono">{traceId}</span>
          </div>
        </div>
        <Warnings warnings={data?.warnings} />
        {error && (
          <div className={styles.failure}>
            <Failure what="This trace cannot be shown" error={error} />
          </div>
        )}
        {shown && shown.lines.length === 0 && <Empty title="No spans with this trace id" />}
        {shown && shown.lines.length > 0 && (
          <WaterfallView waterfall={shown} selected={selected} onSelect={select} />
        )}
      </div>
      {open && (
        <SpanDetails span={open} traceStart={shown?.start_time ?? ""} onClose={() => select(undefined)} />
      )}
    </div>
  );
}
