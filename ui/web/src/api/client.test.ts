import { afterEach, expect, test, vi } from "vitest";
import { ApiError, exact, get, post } from "./client.ts";

afterEach(() => vi.unstubAllGlobals());

function server(status: number, body: string) {
  const fetch = vi.fn<(url: string, init: RequestInit) => Promise<Response>>(
    async () => new Response(body, { status, statusText: "said so" }),
  );
  vi.stubGlobal("fetch", fetch);
  return fetch;
}

async function failure(pending: Promise<unknown>): Promise<ApiError> {
  const error = await pending.then(
    () => null,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(ApiError);
  return error as ApiError;
}

test("parameters without a value are left out", async () => {
  const fetch = server(200, "{}");
  await get("/api/traces", { service: "a b", status: undefined, endpoint: "", limit: 8 });
  expect(fetch.mock.calls[0]?.[0]).toBe("/api/traces?service=a+b&limit=8");
  await get("/api/demo");
  expect(fetch.mock.calls[1]?.[0]).toBe("/api/demo");
});

test("a body is sent as JSON", async () => {
  const fetch = server(200, '{"rows":[]}');
  expect(await post("/api/sql", { query: "select 1" })).toEqual({ rows: [] });
  expect(fetch.mock.calls[0]?.[1]).toMatchObject({ method: "POST", body: '{"query":"select 1"}' });
});

test("an error of the server keeps its words and its place", async () => {
  server(
    400,
    `{"error":{"code":"unknown_column","message":"no column \`servic\`","hint":"did you mean \`service\`?","position":{"line":3,"column":7}}}`,
  );
  const error = await failure(post("/api/sql", {}));
  expect(error).toMatchObject({
    status: 400,
    code: "unknown_column",
    message: "no column `servic`",
    hint: "did you mean `service`?",
    position: { line: 3, column: 7 },
  });
});

test("an error in other words is shown all the same", async () => {
  server(502, "bad gateway");
  expect(await failure(get("/api/graph"))).toMatchObject({
    message: "bad gateway",
    position: null,
    hint: "",
  });
  server(500, "");
  expect((await failure(get("/api/graph"))).message).toBe("said so");
  server(200, "<html>");
  expect((await failure(get("/api/graph"))).message).toBe("the server answered something that is not JSON");
});

test("a server that is away is an error that can be shown, an abort is none", async () => {
  vi.stubGlobal("fetch", () => Promise.reject(new TypeError("failed to fetch")));
  expect(await failure(get("/api/graph"))).toMatchObject({
    status: 0,
    message: "the server does not answer",
  });
  vi.stubGlobal("fetch", () => Promise.reject(new DOMException("stop", "AbortError")));
  await expect(get("/api/graph")).rejects.not.toBeInstanceOf(ApiError);
});

test("integers beyond 53 bits become texts; nothing else changes", () => {
  const same = [
    '{"a":1,"b":9007199254740991,"c":-9007199254740991}',
    '{"a":0.12345678901234567,"b":1234567890123456789.5,"c":12345678901234567e3}',
    '{"a":"9223372036854775807","b":"\\"9223372036854775807","c":"\\\\"}',
    "[]",
  ];
  for (const json of same) expect(exact(json)).toBe(json);
  expect(exact('{"a":9223372036854775807,"b":[-9223372036854775808,1]}')).toBe(
    '{"a":"9223372036854775807","b":["-9223372036854775808",1]}',
  );
});
