// Telemetry as any OpenTelemetry SDK sends it: OTLP over HTTP in JSON.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";

/** Attributes in OTLP's spelling; all texts. */
function attributes(values) {
  return Object.entries(values).map(([key, stringValue]) => ({ key, value: { stringValue } }));
}

/**
 * Sends a trace to `otlp_http`: `client` calls `server`, as spans of SDKs without a proxy. Returns its id.
 */
export async function sendCall(otlp_http, { client, server, name, extra = {}, message = "" }) {
  const trace = randomBytes(16).toString("hex");
  const [outer, inner] = [randomBytes(8).toString("hex"), randomBytes(8).toString("hex")];
  const start = BigInt(Date.now()) * 1_000_000n;
  const span = (service, kind, spanId, parentSpanId) => ({
    resource: { attributes: attributes({ "service.name": service }) },
    scopeSpans: [
      {
        scope: { name: "browser-test" },
        spans: [
          {
            traceId: trace,
            spanId,
            ...(parentSpanId ? { parentSpanId } : {}),
            name,
            kind,
            startTimeUnixNano: String(start),
            endTimeUnixNano: String(start + 20_000_000n),
            attributes: attributes(extra),
            events: [{ timeUnixNano: String(start), name, attributes: attributes(extra) }],
            status: { code: 2, message },
          },
        ],
      },
    ],
  });
  const answer = await fetch(`http://${otlp_http}/v1/traces`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ resourceSpans: [span(client, 3, outer), span(server, 2, inner, outer)] }),
  });
  assert.equal(answer.status, 200, await answer.text());
  return trace;
}
