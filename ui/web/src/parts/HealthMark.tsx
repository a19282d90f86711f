// Health as a shape, a colour and a word, so that none of them is needed alone.
import type { Health } from "../api/types.ts";
import styles from "./HealthMark.module.css";
import { Icon } from "./Icon.tsx";

/** What a reader is told. */
export const HEALTH_WORDS: Record<Health, string> = {
  ok: "healthy",
  warning: "degraded",
  critical: "failing",
  idle: "not called",
};

/** A round mark; with `word`, the word too. */
export function HealthMark({ health, word = false }: { health: Health; word?: boolean }) {
  return (
    <span className={styles.mark} data-health={health}>
      <span className={styles.disc}>
        <Icon name={health} size={10} />
      </span>
      {word && <span>{HEALTH_WORDS[health]}</span>}
    </span>
  );
}
