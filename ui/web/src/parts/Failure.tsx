// What a page shows instead of numbers: an error, or nothing yet.
import type { ErrorComponentProps } from "@tanstack/react-router";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { ApiError } from "../api/client.ts";
import styles from "./Failure.module.css";
import { Prose } from "./Prose.tsx";

/** An error with the server's advice. */
export function Failure({ error, what }: { error: unknown; what: string }) {
  const hint = error instanceof ApiError ? error.hint : "";
  const message = error instanceof Error ? error.message : String(error);
  return (
    <div role="alert" className={styles.failure}>
      <strong>{what}:</strong> <Prose text={message} />
      {hint && (
        <div className={styles.hint}>
          <Prose text={hint} />
        </div>
      )}
    </div>
  );
}

/** Nothing to show, and what to do about it. */
export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className={styles.empty}>
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** How traffic and telemetry get here. */
export function HowToSend() {
  const host = window.location.hostname || "127.0.0.1";
  return (
    <div className={styles.how}>
      <p>Put a proxy beside a service:</p>
      <pre>{`weir proxy --service cart --app 127.0.0.1:8080 --collector ${host}:4317`}</pre>
      <p>or point an OpenTelemetry SDK here:</p>
      <pre>{`export OTEL_EXPORTER_OTLP_ENDPOINT=http://${host}:4317`}</pre>
    </div>
  );
}

export function RouteError({ error }: ErrorComponentProps) {
  return (
    <main className="page">
      <Failure what="This page failed" error={error} />
    </main>
  );
}

export function NotFound() {
  return (
    <div className="page">
      <Empty title="There is no such page">
        <p>
          <Link to="/">To the service graph</Link>
        </p>
      </Empty>
    </div>
  );
}
