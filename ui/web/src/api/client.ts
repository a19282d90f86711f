// Talks to the server that served this page. Every failure becomes an `ApiError` that can be shown.
import { number, object, text } from "./decode.ts";

/** Where in a text something is wrong, from 1. */
export interface Position {
  line: number;
  column: number;
}

/** A request that did not work: what the server said, or why it was not reached. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly hint: string;
  readonly position: Position | null;

  constructor(status: number, body: unknown, fallback: string) {
    const error = object(object(body).error);
    super(text(error.message) || fallback);
    this.name = "ApiError";
    this.status = status;
    this.code = text(error.code);
    this.hint = text(error.hint);
    const position = object(error.position);
    const line = number(position.line);
    this.position = line === null ? null : { line, column: number(position.column) ?? 1 };
  }
}

/** GET `path` with the parameters that have a value. */
export async function get(
  path: string,
  parameters: Record<string, string | number | undefined> = {},
  signal?: AbortSignal,
): Promise<unknown> {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== "") query.set(key, String(value));
  }
  const url = query.size > 0 ? `${path}?${query}` : path;
  return answer(fetch(url, { signal: signal ?? null, headers: { accept: "application/json" } }));
}

/** POST `body` as JSON. */
export async function post(path: string, body: unknown, signal?: AbortSignal): Promise<unknown> {
  const headers = { "content-type": "application/json", accept: "application/json" };
  return answer(fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal: signal ?? null }));
}

const TEXT_OR_LONG_INTEGER = /"(?:[^"\\]|\\.)*"|(?<![\d.])-?\d{16,}(?![\d.eE])/g;

/** JSON whose integers beyond a double's 53 bits became texts, or their last digits would be lost. */
export function exact(json: string): string {
  return json.replace(TEXT_OR_LONG_INTEGER, (token) =>
    token.startsWith('"') || Number.isSafeInteger(Number(token)) ? token : `"${token}"`,
  );
}

async function answer(pending: Promise<Response>): Promise<unknown> {
  let response: Response;
  try {
    response = await pending;
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === "AbortError") throw cause;
    throw new ApiError(0, null, "the server does not answer");
  }
  const body = await response.text();
  let json: unknown = null;
  try {
    json = body === "" ? null : JSON.parse(exact(body));
  } catch {
    if (response.ok)
      throw new ApiError(response.status, null, "the server answered something that is not JSON");
  }
  if (!response.ok) throw new ApiError(response.status, json, body.slice(0, 300) || response.statusText);
  return json;
}
