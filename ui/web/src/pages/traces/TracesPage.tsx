// Traces of a window: the slowest or the latest, of all services or one, failed or not.
import { SegmentedControl, Select } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { get } from "../../api/client.ts";
import { object, text } from "../../api/decode.ts";
import { useTraces } from "../../api/queries.ts";
import { Empty, Failure, HowToSend } from "../../parts/Failure.tsx";
import { SqlButton } from "../../parts/SqlButton.tsx";
import { TraceTable } from "../../parts/TraceList.tsx";
import { Warnings } from "../../parts/Warnings.tsx";
import { type TracesSearch, WINDOWS } from "../../router.tsx";

export function TracesPage() {
  const { window = "15m", service, status, sort = "recent" } = useSearch({ from: "/traces" });
  const navigate = useNavigate();
  const services = useServices();
  const { data, error } = useTraces({ service, status, sort, from: `-${window}`, limit: 100 });
  const change = (part: TracesSearch) =>
    navigate({ to: "/traces", search: (before) => ({ ...before, ...part }), replace: true });
  const options = service && !services.includes(service) ? [...services, service] : services;
  return (
    <div className="page">
      <div className="page-head">
        <h1>Traces</h1>
        <Select
          size="xs"
          aria-label="Service"
          placeholder="All services"
          clearable
          searchable
          data={options}
          value={service ?? null}
          onChange={(value) => change({ service: value ?? undefined })}
        />
        <SegmentedControl
          size="xs"
          aria-label="Status"
          value={status ?? "all"}
          data={[
            { value: "all", label: "all" },
            { value: "error", label: "failed" },
            { value: "ok", label: "good" },
          ]}
          onChange={(value) =>
            change({ status: value === "all" ? undefined : (value as TracesSearch["status"]) })
          }
        />
        <SegmentedControl
          size="xs"
          aria-label="Order"
          value={sort}
          data={[
            { value: "recent", label: "latest" },
            { value: "slow", label: "slowest" },
          ]}
          onChange={(value) => change({ sort: value as TracesSearch["sort"] })}
        />
        <SegmentedControl
          size="xs"
          aria-label="Window"
          value={window}
          data={[...WINDOWS]}
          onChange={(value) => change({ window: value as TracesSearch["window"] })}
        />
        <span className="grow" />
        <SqlButton about="these traces" sql={data?.sql ?? ""} />
      </div>
      {error && <Failure what="No traces" error={error} />}
      <Warnings warnings={data?.warnings} />
      {data && data.traces.length === 0 && (
        <Empty title="No such traces in this window">
          <HowToSend />
        </Empty>
      )}
      {data && data.traces.length > 0 && <TraceTable traces={data.traces} label="Traces" />}
    </div>
  );
}

function useServices(): string[] {
  const { data } = useQuery({
    queryKey: ["services"],
    queryFn: async ({ signal }) => {
      const answer = object(await get("/api/services", {}, signal)).services;
      return Array.isArray(answer) ? answer.map((service) => text(object(service).name)) : [];
    },
    staleTime: 10_000,
  });
  return [...new Set(data ?? [])].filter((name) => name !== "").sort();
}
