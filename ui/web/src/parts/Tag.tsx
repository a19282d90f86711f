// A word in a box: a state, a severity, a badge.
import type { ReactNode } from "react";
import { Icon, type IconName } from "./Icon.tsx";
import styles from "./Tag.module.css";

export type Tone = "ok" | "warning" | "critical" | "idle" | "accent";

export function Tag({
  tone = "idle",
  icon,
  children,
}: {
  tone?: Tone;
  icon?: IconName;
  children: ReactNode;
}) {
  return (
    <span className={styles.tag} data-tone={tone}>
      {icon && <Icon name={icon} size={12} />}
      {children}
    </span>
  );
}
