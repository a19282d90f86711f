// What the pages ask for, how often, and how long an answer serves.
import { keepPreviousData, queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { ApiError, get, post } from "./client.ts";
import * as decode from "./decode.ts";
import type { FaultKind } from "./types.ts";

/** The graph moves this often. */
const GRAPH_MS = 2000;
/** Charts and lists move this often. */
const LIST_MS = 5000;

export function useGraph(window: string) {
  return useQuery({
    queryKey: ["graph", window],
    queryFn: async ({ signal }) => decode.graph(await get("/api/graph", { from: `-${window}` }, signal)),
    refetchInterval: GRAPH_MS,
    placeholderData: keepPreviousData,
  });
}

/** A query whose answer is shown beside its text. */
export function useSql(query: string, enabled = true) {
  return useQuery({
    ...sqlOptions(query),
    enabled,
    refetchInterval: LIST_MS,
    placeholderData: keepPreviousData,
  });
}

export function sqlOptions(query: string) {
  return queryOptions({
    queryKey: ["sql", query],
    queryFn: async ({ signal }) => decode.sqlResult(await post("/api/sql", { query }, signal)),
  });
}

/** Which traces to list. */
export interface TraceFilter {
  service?: string | undefined;
  client?: string | undefined;
  server?: string | undefined;
  endpoint?: string | undefined;
  status?: "error" | "ok" | undefined;
  min_duration_ms?: number | undefined;
  sort: "slow" | "recent";
  from: string;
  limit: number;
}

export function useTraces(filter: TraceFilter) {
  return useQuery({
    queryKey: ["traces", filter],
    queryFn: async ({ signal }) => decode.traces(await get("/api/traces", { ...filter }, signal)),
    refetchInterval: LIST_MS,
    placeholderData: keepPreviousData,
  });
}

export function useTrace(id: string) {
  return useQuery({
    queryKey: ["trace", id],
    queryFn: async ({ signal }) =>
      decode.trace(await get(`/api/traces/${encodeURIComponent(id)}`, {}, signal)),
    staleTime: LIST_MS,
  });
}

export function useFindings(from: string, active: boolean) {
  return useQuery({
    queryKey: ["findings", from, active],
    queryFn: async ({ signal }) =>
      decode.findings(await get("/api/findings", { from, active: active ? "true" : undefined }, signal)),
    refetchInterval: GRAPH_MS,
    placeholderData: keepPreviousData,
  });
}

export function useHints(from: string, active: boolean) {
  return useQuery({
    queryKey: ["hints", from, active],
    queryFn: async ({ signal }) =>
      decode.hints(await get("/api/hints", { from, active: active ? "true" : undefined }, signal)),
    refetchInterval: GRAPH_MS,
    placeholderData: keepPreviousData,
  });
}

export function useStatus() {
  return useQuery({
    queryKey: ["status"],
    queryFn: async ({ signal }) => decode.status(await get("/api/status", {}, signal)),
    refetchInterval: GRAPH_MS,
  });
}

/** The demo's switches; `null` where the server is no demo. */
export function useDemo() {
  return useQuery({
    queryKey: ["demo"],
    queryFn: async ({ signal }) => {
      try {
        return decode.demo(await get("/api/demo", {}, signal));
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return null;
        throw error;
      }
    },
    refetchInterval: (query) => (query.state.data === null ? false : GRAPH_MS),
  });
}

export function useFaultSwitch() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (fault: { kind: FaultKind; target: string; on: boolean }) => post("/api/demo/faults", fault),
    onSettled: () => client.invalidateQueries({ queryKey: ["demo"] }),
  });
}
