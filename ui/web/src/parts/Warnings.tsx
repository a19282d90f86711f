// What the reader of an answer should know: that rows were cut, or that a damaged file is missing from it.
import styles from "./Warnings.module.css";

export function Warnings({ warnings }: { warnings: string[] | undefined }) {
  return warnings?.map((warning) => (
    <p key={warning} className={styles.warning} role="status">
      {warning}
    </p>
  ));
}
