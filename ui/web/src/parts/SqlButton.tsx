// "SQL": shows the query behind a number, and leads to the page where it can be run and changed.
import { Button, Popover } from "@mantine/core";
import { useClipboard } from "@mantine/hooks";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import styles from "./SqlButton.module.css";

/** `about` says which numbers the query makes, for the button's name. */
export function SqlButton({ about, sql }: { about: string; sql: string }) {
  const [opened, setOpened] = useState(false);
  const clipboard = useClipboard();
  if (sql === "") return null;
  return (
    <Popover
      opened={opened}
      onChange={setOpened}
      width="min(520px, calc(100vw - 16px))"
      position="bottom-end"
      shadow="md"
      trapFocus
      returnFocus
    >
      <Popover.Target>
        <button
          type="button"
          className={styles.button}
          aria-label={`SQL of ${about}`}
          onClick={() => setOpened((before) => !before)}
        >
          SQL
        </button>
      </Popover.Target>
      <Popover.Dropdown className={styles.dropdown} aria-label={`SQL of ${about}`} data-layer="popover">
        <pre className={styles.query} data-testid="sql-text">
          {sql}
        </pre>
        <div className={styles.actions}>
          <Button size="compact-xs" variant="default" onClick={() => clipboard.copy(sql)}>
            {clipboard.copied ? "Copied" : "Copy"}
          </Button>
          <Link to="/sql" search={{ q: sql }} className={styles.open} data-autofocus>
            Open in SQL page
          </Link>
        </div>
      </Popover.Dropdown>
    </Popover>
  );
}
