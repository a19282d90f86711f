// Which counts a panel reads: the proxies' own, or those of spans where no proxy saw the calls.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { number } from "../../api/decode.ts";
import { sqlOptions } from "../../api/queries.ts";
import { type Reporter, reporters, type Subject } from "../../sql/statements.ts";

export function useReporter(subject: Subject, window: string): Reporter {
  const { data } = useQuery({
    ...sqlOptions(reporters(subject, window)),
    staleTime: 30_000,
    placeholderData: keepPreviousData,
  });
  const row = data?.rows[0];
  const spansOnly = row && (number(row.proxies) ?? 0) === 0 && (number(row.buckets) ?? 0) > 0;
  return spansOnly ? "span" : "proxy";
}
