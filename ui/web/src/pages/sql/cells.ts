// What a cell of a SQL result shows, and on which side it stands.
import type { Column } from "../../api/types.ts";

/** A value as text; lists, maps and structs as JSON. */
export function cellText(value: unknown): string {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Whether a column holds numbers, which stand at the right. */
export function isNumeric(column: Column): boolean {
  return /^(smallint|integer|u?bigint|real|double|decimal\(.*\))$/.test(column.type);
}
