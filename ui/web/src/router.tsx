// The addresses of the app. All state of a page that is worth sharing is in them.
import { createRootRoute, createRoute, createRouter, lazyRouteComponent } from "@tanstack/react-router";
import { text } from "./api/decode.ts";
import { GraphPage } from "./pages/graph/GraphPage.tsx";
import { NotFound, RouteError } from "./parts/Failure.tsx";
import { Shell } from "./Shell.tsx";

/** Windows that numbers can be asked for. */
export const WINDOWS = ["1m", "5m", "15m", "1h"] as const;
export type Window = (typeof WINDOWS)[number];

/** What the labels of the graph's edges can show. */
export const EDGE_LABELS = ["rate", "errors", "p50", "p90", "p99"] as const;
export type EdgeLabel = (typeof EDGE_LABELS)[number];

function oneOf<T extends string>(values: readonly T[], value: unknown): T | undefined {
  return values.find((candidate) => candidate === value);
}

function some(value: unknown): string | undefined {
  return text(value) || undefined;
}

const root = createRootRoute({
  component: Shell,
  errorComponent: RouteError,
  notFoundComponent: NotFound,
  validateSearch: (search: Record<string, unknown>): { faults?: true | undefined } => ({
    faults: search.faults === true ? true : undefined,
  }),
});

/** State of the graph page. */
export interface GraphSearch {
  window?: Window | undefined;
  label?: EdgeLabel | undefined;
  find?: string | undefined;
  node?: string | undefined;
  edge?: string | undefined;
}

const graph = createRoute({
  getParentRoute: () => root,
  path: "/",
  component: GraphPage,
  validateSearch: (search: Record<string, unknown>): GraphSearch => ({
    window: oneOf(WINDOWS, search.window),
    label: oneOf(EDGE_LABELS, search.label),
    find: some(search.find),
    node: some(search.node),
    edge: some(search.edge),
  }),
});

/** State of the trace list. */
export interface TracesSearch {
  window?: Window | undefined;
  service?: string | undefined;
  status?: "error" | "ok" | undefined;
  sort?: "slow" | "recent" | undefined;
}

const traces = createRoute({
  getParentRoute: () => root,
  path: "/traces",
  component: lazyRouteComponent(() => import("./pages/traces/TracesPage.tsx"), "TracesPage"),
  validateSearch: (search: Record<string, unknown>): TracesSearch => ({
    window: oneOf(WINDOWS, search.window),
    service: some(search.service),
    status: oneOf(["error", "ok"] as const, search.status),
    sort: oneOf(["slow", "recent"] as const, search.sort),
  }),
});

const trace = createRoute({
  getParentRoute: () => root,
  path: "/traces/$traceId",
  component: lazyRouteComponent(() => import("./pages/trace/TracePage.tsx"), "TracePage"),
  validateSearch: (search: Record<string, unknown>): { span?: string | undefined } => ({
    span: some(search.span),
  }),
});

const health = createRoute({
  getParentRoute: () => root,
  path: "/health",
  component: lazyRouteComponent(() => import("./pages/health/HealthPage.tsx"), "HealthPage"),
  validateSearch: (search: Record<string, unknown>): { show?: "active" | undefined } => ({
    show: oneOf(["active"] as const, search.show),
  }),
});

const sql = createRoute({
  getParentRoute: () => root,
  path: "/sql",
  component: lazyRouteComponent(() => import("./pages/sql/SqlPage.tsx"), "SqlPage"),
  validateSearch: (search: Record<string, unknown>): { q?: string | undefined } => ({ q: some(search.q) }),
});

const status = createRoute({
  getParentRoute: () => root,
  path: "/status",
  component: lazyRouteComponent(() => import("./pages/status/StatusPage.tsx"), "StatusPage"),
});

export const router = createRouter({
  routeTree: root.addChildren([graph, traces, trace, health, sql, status]),
  defaultPreload: "intent",
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
