// A titled part of a panel or page, with the SQL of what it shows.
import { type ReactNode, useId } from "react";
import styles from "./Section.module.css";
import { SqlButton } from "./SqlButton.tsx";

interface Props {
  title: string;
  note?: string;
  sql?: string;
  aside?: ReactNode;
  children: ReactNode;
}

export function Section({ title, note, sql, aside, children }: Props) {
  const id = useId();
  return (
    <section className={styles.section} aria-labelledby={id}>
      <div className={styles.head}>
        <h3 id={id}>{title}</h3>
        {note && <span className={styles.note}>{note}</span>}
        <span className="grow" />
        {aside}
        {sql && <SqlButton about={title} sql={sql} />}
      </div>
      {children}
    </section>
  );
}
