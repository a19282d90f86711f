// Questions in SQL, over the same rows that every other page shows.
import { Button } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { ApiError, type Position, post } from "../../api/client.ts";
import { sqlResult } from "../../api/decode.ts";
import { millis, plural } from "../../format.ts";
import { Prose } from "../../parts/Prose.tsx";
import { Warnings } from "../../parts/Warnings.tsx";
import { EXAMPLES } from "../../sql/statements.ts";
import { offsetAt, snippet } from "./position.ts";
import { ResultTable } from "./ResultTable.tsx";
import styles from "./SqlPage.module.css";

/** What the page starts with when the address names no query. */
const FIRST = EXAMPLES[0]?.query ?? "";

export function SqlPage() {
  const { q } = useSearch({ from: "/sql" });
  const navigate = useNavigate();
  const [draft, setDraft] = useState(q ?? FIRST);
  const [run, setRun] = useState(0);
  const editor = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (q !== undefined) setDraft(q);
  }, [q]);

  const { data, error, isFetching } = useQuery({
    queryKey: ["ask", q, run],
    queryFn: async ({ signal }) => sqlResult(await post("/api/sql", { query: q }, signal)),
    enabled: q !== undefined,
    staleTime: Number.POSITIVE_INFINITY,
    gcTime: 0,
    refetchOnWindowFocus: false,
  });
  const submit = (query: string) => {
    setRun((before) => before + 1);
    navigate({ to: "/sql", search: (before) => ({ ...before, q: query }) });
  };
  return (
    <div className={styles.page}>
      <form
        className={styles.form}
        onSubmit={(event) => {
          event.preventDefault();
          submit(draft);
        }}
      >
        <div className={styles.bar}>
          <h1>SQL</h1>
          <span className={styles.examples}>
            {EXAMPLES.map((example) => (
              <button
                key={example.title}
                type="button"
                className={styles.example}
                onClick={() => submit(example.query)}
              >
                {example.title}
              </button>
            ))}
          </span>
        </div>
        <textarea
          ref={editor}
          className={styles.editor}
          aria-label="SQL query"
          data-testid="editor"
          spellCheck={false}
          autoCapitalize="off"
          autoComplete="off"
          rows={Math.min(Math.max(draft.split("\n").length + 1, 7), 16)}
          value={draft}
          onChange={(event) => setDraft(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
            event.preventDefault();
            submit(draft);
          }}
        />
        <div className={styles.actions}>
          <Button type="submit" size="xs" loading={isFetching}>
            Run
          </Button>
          <span className="dim">Ctrl+Enter</span>
          <span className="dim">
            views: spans, logs, metrics, traces, edges, service_graph, findings, hints
          </span>
          <span className="grow" />
          {data && !error && (
            <span className="dim" data-testid="stats" role="status">
              {plural(data.rows.length, "row")} · {millis(data.stats.elapsed_ms)}
              {data.stats.files !== null && ` · ${plural(data.stats.files, "file")}`}
            </span>
          )}
        </div>
      </form>
      {error && <SqlError error={error} query={q ?? ""} editor={editor} />}
      <Warnings warnings={data?.warnings} />
      {q === undefined && (
        <p className="dim">
          The query above is ready to run; the buttons have others. Rows appear here, and the address of this
          page then holds the query.
        </p>
      )}
      {data && !error && <ResultTable result={data} />}
    </div>
  );
}

interface SqlErrorProps {
  error: Error;
  query: string;
  editor: React.RefObject<HTMLTextAreaElement | null>;
}

/** What is wrong and where, with the line itself. */
function SqlError({ error, query, editor }: SqlErrorProps) {
  const position = error instanceof ApiError ? error.position : null;
  const hint = error instanceof ApiError ? error.hint : "";
  const go = (to: Position) => {
    const offset = offsetAt(query, to);
    editor.current?.focus();
    editor.current?.setSelectionRange(offset, offset + 1);
  };
  return (
    <div role="alert" className={styles.error} data-testid="sql-error">
      {position && (
        <button type="button" className={styles.position} onClick={() => go(position)}>
          line {position.line}, column {position.column}
        </button>
      )}
      <div className={styles.errorText}>
        <Prose text={error.message} />
      </div>
      {position && <pre>{snippet(query, position)}</pre>}
      {hint && (
        <div className="dim">
          <Prose text={hint} />
        </div>
      )}
    </div>
  );
}
